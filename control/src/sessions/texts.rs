//! Several short texts in one piece of memory.

/// `N` texts, one behind the other: each takes as many bytes as it is long, and an end.
#[derive(Debug)]
pub(super) struct Texts<const N: usize> {
    all: Box<str>,
    ends: [u32; N],
}

impl<const N: usize> Texts<N> {
    pub(super) fn new(texts: [&str; N]) -> Self {
        let mut end = 0;
        let ends = texts.map(|text| {
            end += text.len();
            u32::try_from(end).expect("records are shorter than 4 GiB")
        });
        Self { all: texts.concat().into_boxed_str(), ends }
    }

    /// The text in this place.
    pub(super) fn get(&self, place: usize) -> &str {
        let end = |place: usize| self.ends[place] as usize;
        let begin = place.checked_sub(1).map_or(0, end);
        &self.all[begin..end(place)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_where_it_was_put() {
        let given = ["https://id.example", "", "Zoë", "", "[]"];
        let texts = Texts::new(given);
        assert_eq!([0, 1, 2, 3, 4].map(|place| texts.get(place)), given);
    }
}

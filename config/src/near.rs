//! Words for findings: the name that was probably meant, and lists of what there is.

/// Longest text that may be a slip for a name: a longer one is something else, and dear to compare.
const LONGEST: usize = 64;

/// The known name that `given` was probably meant to be, if one is near enough.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    if given.len() > LONGEST {
        return None;
    }
    let far = known.iter().map(|name| (strsim::damerau_levenshtein(given, name), *name));
    let (distance, name) = far.min()?;
    // A third of the letters wrong is no slip of the fingers any more; two always may be.
    let slips = (given.chars().count().max(name.chars().count()) / 3).max(1);
    (distance <= slips).then_some(name)
}

/// `a, b or c`, each quoted.
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_another_word_finds_none() {
        let known = ["idle_after", "max_age", "port", "ports"];
        for (given, expected) in [
            ("idle_afer", Some("idle_after")),
            ("idel_after", Some("idle_after")),
            ("maxage", Some("max_age")),
            ("prot", Some("port")),
            ("portss", Some("ports")),
            ("colour", None),
            ("", None),
            (&"idle_after".repeat(9), None),
        ] {
            assert_eq!(nearest(given, &known), expected, "{given}");
        }
        assert_eq!(nearest("a", &[]), None);
    }

    #[test]
    fn a_list_reads_like_a_sentence() {
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&[]), "nothing");
    }
}

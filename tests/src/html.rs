//! As much HTML as it takes to fill in a form.

/// A form: where it goes and what it sends unless somebody types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// `action`, as written; empty = the page itself.
    pub action: String,
    /// Names and values of its hidden inputs.
    pub hidden: Vec<(String, String)>,
    /// The name of the first input that takes text.
    pub text: Option<String>,
    /// The name of the first input that takes a password.
    pub password: Option<String>,
}

/// The first form of a page.
pub fn form(page: &str) -> Option<Form> {
    read(&page[page.find("<form")?..])
}

/// The form of a page with this id.
pub fn form_named(page: &str, id: &str) -> Option<Form> {
    let mut starts = page.match_indices("<form").map(|(start, _)| &page[start..]);
    read(starts.find(|form| attribute(first_tag(form), "id").as_deref() == Some(id))?)
}

fn read(body: &str) -> Option<Form> {
    let body = &body[..body.find("</form>").unwrap_or(body.len())];
    let action = attribute(first_tag(body), "action").unwrap_or_default();
    let mut form = Form { action, hidden: vec![], text: None, password: None };
    for input in body.split("<input").skip(1).map(first_tag) {
        let name = attribute(input, "name");
        match (attribute(input, "type").as_deref(), name) {
            (Some("hidden"), Some(name)) => {
                form.hidden.push((name, attribute(input, "value").unwrap_or_default()));
            }
            (None | Some("text"), Some(name)) if form.text.is_none() => form.text = Some(name),
            (Some("password"), Some(name)) if form.password.is_none() => form.password = Some(name),
            _ => {}
        }
    }
    Some(form)
}

/// Where the link with this id leads.
pub fn link(page: &str, id: &str) -> Option<String> {
    let tags = page.split("<a ").skip(1).map(|text| format!(" {}", first_tag(text)));
    let mut found = tags.filter(|tag| attribute(tag, "id").as_deref() == Some(id));
    attribute(&found.next()?, "href")
}

/// Up to the end of the tag that the text begins in.
fn first_tag(text: &str) -> &str {
    &text[..text.find('>').unwrap_or(text.len())]
}

/// The value of an attribute, quoted or bare.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split_once(&format!(" {name}="))?.1;
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value.split_whitespace().next()?,
    };
    Some(unescape(value))
}

fn unescape(text: &str) -> String {
    let text =
        text.replace("&quot;", "\"").replace("&#39;", "'").replace("&#x2F;", "/").replace("&#47;", "/");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_hidden_inputs_and_its_first_text() {
        let page = r#"<p><form method=post action="/login?a=1&amp;b=2"><input type="hidden" name="state" value="x&quot;y">
            <input name=name autofocus><input type=password name=secret><input type="submit" value="Go"></form>
            <form><input name=other></form>"#;
        let expected = Form {
            action: "/login?a=1&b=2".into(),
            hidden: vec![("state".to_owned(), "x\"y".to_owned())],
            text: Some("name".into()),
            password: Some("secret".into()),
        };
        assert_eq!(form(page), Some(expected));
    }

    #[test]
    fn a_link_is_found_by_its_id() {
        let page = r#"<a href="/x">x</a><a id="on" class="button" href="/login?a=1&amp;b=2">Go on</a>"#;
        assert_eq!((link(page, "on").as_deref(), link(page, "off")), (Some("/login?a=1&b=2"), None));
    }

    #[test]
    fn a_page_without_a_form_has_none() {
        assert_eq!(form("<p>hello"), None);
    }
}

//! The shell of every page of ours: one document, one style sheet, one set of headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// The one style sheet, inline in every page and allowed by its hash.
const CSS: &str = include_str!("page.css");

/// The style sheet's source expression for `style-src` (CSP Level 3 §6.7.2.3).
static CSS_HASH: LazyLock<String> = LazyLock::new(|| {
    let digest = ring::digest::digest(&ring::digest::SHA256, CSS.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(digest))
});

/// A drawing as data: a page needs no further request for its icon, and none that a workspace would answer.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E\
    %3Crect width='32' height='32' rx='8' fill='%232457c5'/%3E\
    %3Cpath d='M10 8v9a6 6 0 0 0 12 0V8' fill='none' stroke='white' stroke-width='4' stroke-linecap='round'/%3E\
    %3C/svg%3E";

/// A page of ours.
///
/// Its body stands in `<main>` and may use what `page.css` knows: `.lead`, `.soft`, `.small`, `.actions`,
/// `button.second`, `button.danger`, `.note`, `.alarm`, `.phase[data-phase]`, `.hidden-text`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// Its title, as text.
    pub title: &'a str,
    /// The inside of `<main>`, as HTML; whatever came from outside has gone through [`escape`].
    pub body: &'a str,
    /// Paths of scripts on this host, loaded with `defer`.
    pub scripts: &'a [&'a str],
    /// Where a browser without scripts goes after [`REFRESH_SECONDS`], as text.
    pub refresh: Option<&'a str>,
    /// Where a browser without scripts goes at once, as text.
    pub next: Option<&'a str>,
}

/// How long a browser without scripts waits until it looks again.
pub const REFRESH_SECONDS: u32 = 2;

impl Page<'_> {
    /// The whole document.
    pub fn html(&self) -> String {
        let mut html = String::with_capacity(CSS.len() + self.body.len() + 1024);
        html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        html.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
        html.push_str("<meta name=\"robots\" content=\"noindex\">\n");
        // Writing to a String does not fail.
        let _ = writeln!(html, "<title>{} · Usher</title>", escape(self.title));
        let _ = writeln!(html, "<link rel=\"icon\" href=\"{ICON}\">\n<style>{CSS}</style>");
        for script in self.scripts {
            let _ = writeln!(html, "<script src=\"{}\" defer></script>", escape(script));
        }
        if let Some(address) = self.refresh {
            // Without `url=` an address with a fragment would not be loaded again.
            let _ = writeln!(
                html,
                "<noscript><meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS};url={}\"></noscript>",
                escape(address)
            );
        }
        if let Some(address) = self.next {
            let _ = writeln!(
                html,
                "<noscript><meta http-equiv=\"refresh\" content=\"0;url={}\"></noscript>",
                escape(address)
            );
        }
        let _ = writeln!(html, "</head>\n<body>\n<main>\n{}\n</main>", self.body);
        html.push_str("<footer>Usher</footer>\n</body>\n</html>\n");
        html
    }

    /// The whole answer, with the [`headers`] of every page.
    pub fn response(&self, status: StatusCode, reach: Reach<'_>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.html()));
        *response.status_mut() = status;
        *response.headers_mut() = headers(reach);
        response
    }
}

/// What a page may reach besides its own origin: CSP source lists, empty for nothing more.
///
/// Chromium holds `form-action` against the redirects after a form, too: a form whose answer leads to another
/// host needs that host here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach<'a> {
    /// `form-action`: `http://*.lab.localhost:8080`.
    pub forms: &'a str,
    /// `connect-src`.
    pub connections: &'a str,
    /// `img-src`.
    pub images: &'a str,
}

/// The headers of every page of ours: nothing inline, nothing foreign, no framing, no cache.
///
/// Sources that cannot stand in a header leave the page with a policy that allows nothing.
pub fn headers(reach: Reach<'_>) -> HeaderMap {
    let also = |sources: &str| match sources {
        "" => String::new(),
        some => format!(" {some}"),
    };
    let policy = format!(
        "default-src 'none'; style-src {}; script-src 'self'; connect-src 'self'{}; img-src 'self' data:{}; \
         form-action 'self'{}; base-uri 'none'; frame-ancestors 'none'",
        *CSS_HASH,
        also(reach.connections),
        also(reach.images),
        also(reach.forms),
    );
    let mut headers = common_headers();
    let policy = HeaderValue::try_from(policy)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // Not `no-referrer`: with it a form sends `Origin: null`, and every form of ours needs its origin.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(HeaderName::from_static("origin-agent-cluster"), HeaderValue::from_static("?1"));
    headers
}

/// The headers of every answer of ours, page or not: `no-store`, `nosniff`, for no other origin's pages.
pub fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers
}

/// A text as it may stand in HTML, between tags and in quoted attributes.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_from_outside_becomes_markup() {
        assert_eq!(escape("a & <b> \"c\" 'd'"), "a &amp; &lt;b&gt; &quot;c&quot; &#39;d&#39;");
        let page = Page {
            title: "</title><script>",
            refresh: Some("/a?b=\"><script>"),
            next: Some("/a?b=\"><script>"),
            scripts: &["/.usher/x.js\"><script>"],
            ..Page::default()
        };
        assert!(!page.html().contains("<script>"), "{}", page.html());
    }

    #[test]
    fn the_policy_allows_exactly_the_style_that_the_page_carries() {
        let html = Page { title: "T", body: "<p>B</p>", ..Page::default() }.html();
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, style.as_bytes());
        let source = format!("style-src 'sha256-{}';", STANDARD.encode(digest));
        let headers = headers(Reach::default());
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains(&source), "{policy}");
        assert!(policy.contains("form-action 'self';") && policy.contains("frame-ancestors 'none'"));
    }

    #[test]
    fn a_form_reaches_the_hosts_that_it_is_given_and_no_other_directive_does() {
        let headers = headers(Reach { forms: "http://*.lab.localhost:8080", ..Reach::default() });
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("form-action 'self' http://*.lab.localhost:8080;"), "{policy}");
        assert_eq!(policy.matches("8080").count(), 1);
    }

    #[test]
    fn a_page_says_its_language_and_fits_a_phone() {
        let html = Page { title: "Login", body: "<p>B</p>", ..Page::default() }.html();
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"));
        assert!(html.contains("width=device-width") && html.contains("<title>Login · Usher</title>"));
        assert!(html.contains("<main>\n<p>B</p>\n</main>"));
    }
}

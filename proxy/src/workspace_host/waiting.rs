//! The waiting page: where the workspace stands, live, and what the one who waits can do.
//!
//! All words stand in the document; the script only shows those that apply. Without it the document says
//! where the workspace stood when it was asked for, and asks again.

use super::status::Status;
use crate::page::{Page, escape};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Where the page's script is served.
pub(super) const SCRIPT_PATH: &str = "/.usher/wait.js";
/// The page's script.
pub(super) const SCRIPT: &str = include_str!("waiting.js");

/// What one waiting page shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) status: &'a Status,
    /// Whether its start is wanted, though the table may still call it stopped.
    pub(super) woken: bool,
    /// The host that was asked for.
    pub(super) host: &'a str,
    /// That host's origin, as the browser writes it.
    pub(super) origin: &'a str,
    /// Path and query that were asked for.
    pub(super) page: &'a str,
    /// Whether many share it: it is nobody's workspace then, and keeps nobody's files.
    pub(super) shared: bool,
}

/// What is said of a workspace, and what in its place of something that many share.
const SHARED: [(&str, &str); 7] = [
    ("your workspace", "this application"),
    ("Your workspace", "This application"),
    ("Only so many workspaces", "Only so many"),
    ("Yours is", "This one is"),
    (" Your files are kept, and you can start it again.", " You can start it again."),
    (" Your files are kept.", ""),
    (", and your files are safe.", "."),
];

/// One state of the page: where the workspace stands, as the one who waits would say it.
struct View {
    name: &'static str,
    heading: &'static str,
    /// HTML.
    lead: &'static str,
    /// How far along the steps it is; none = on none of them.
    step: Option<usize>,
}

/// Queue, start, open.
const STEPS: [&str; 3] = ["In line", "Starting", "Ready"];

const VIEWS: [View; 8] = [
    View {
        name: "queued",
        heading: "Waiting for a place",
        lead: "Only so many workspaces start at a time. Yours is <strong>number <span data-position></span></strong> \
               in line, and starts by itself.",
        step: Some(0),
    },
    View {
        name: "starting",
        heading: "Starting your workspace",
        lead: "It opens here by itself as soon as it is ready.",
        step: Some(1),
    },
    View { name: "ready", heading: "Your workspace is ready", lead: "Opening it now.", step: Some(2) },
    View {
        name: "unseen",
        heading: "The cluster is not seen just now",
        lead: "Your workspace goes on running, and your files are safe. It opens here by itself as soon as the \
               cluster is seen again.",
        step: Some(2),
    },
    View {
        name: "restarting",
        heading: "Stopping, then starting again",
        lead: "<span data-why></span> It was being stopped when you came, and starts again by itself. \
               Your files are kept.",
        step: Some(0),
    },
    View {
        name: "stopping",
        heading: "Your workspace is being stopped",
        lead: "<span data-why></span> Your files are kept, and you can start it again.",
        step: None,
    },
    View {
        name: "stopped",
        heading: "Your workspace is stopped",
        lead: "<span data-why></span> Your files are kept. Start it to go on to the page that you asked for.",
        step: None,
    },
    View {
        name: "failed",
        heading: "Your workspace did not start",
        lead: "Your files are safe. You can try again now.",
        step: None,
    },
];

impl Shown<'_> {
    /// Which view is shown first. The script holds the same rule for all that follows.
    fn view(&self) -> &'static View {
        let name = match (self.status.phase, self.woken) {
            ("stopped", true) => "starting",
            ("stopping", true) => "restarting",
            ("ready", _) if !self.status.opens() => "unseen",
            (phase, _) => phase,
        };
        VIEWS.iter().find(|view| view.name == name).unwrap_or(&VIEWS[1])
    }

    /// Whether the workspace moves on by itself, so that looking again helps.
    fn moves(&self) -> bool {
        self.view().step.is_some()
    }

    /// Whether something is in its way that somebody may have mended.
    fn is_hindered(&self) -> bool {
        self.status.cause.as_ref().is_some_and(|cause| !cause.notice)
    }

    /// The page.
    pub(super) fn html(&self) -> String {
        let body = self.body();
        // Absolute, so that a path like `//elsewhere/` names no other host.
        let again = format!("{}{}", self.origin, self.page);
        let title = format!("{} · {}", self.said(self.view().heading), self.status.workspace);
        Page {
            title: &title,
            body: &body,
            scripts: &[SCRIPT_PATH],
            refresh: self.moves().then_some(again.as_str()),
            next: None,
        }
        .html()
    }

    fn body(&self) -> String {
        let view = self.view();
        let mut html = format!(
            "<div id=\"waiting\" class=\"waiting\" data-view=\"{}\" data-woken=\"{}\" data-workspace=\"{}\">\n\
             <p class=\"small soft where\">{}</p>\n",
            view.name,
            self.woken,
            escape(&self.status.workspace),
            escape(self.host)
        );
        self.words(&mut html);
        self.progress(&mut html);
        self.failure(&mut html);
        self.actions(&mut html);
        self.advice(&mut html);
        self.facts(&mut html);
        self.output(&mut html);
        html.push_str("</div>");
        html
    }

    /// The sentences of every view, of which one is shown; a screen reader hears when another one is.
    fn words(&self, html: &mut String) {
        let shown = self.view().name;
        let why = self.status.stopped.as_ref().map_or("", |stopped| stopped.detail);
        let position = self.status.position.map(|position| position.to_string()).unwrap_or_default();
        html.push_str("<div role=\"status\" aria-live=\"polite\">\n");
        for View { name, heading, lead, .. } in &VIEWS {
            let hidden = if *name == shown { "" } else { " hidden" };
            let (heading, lead) = (self.said(heading), self.said(lead));
            let lead = lead
                .replace("data-position></", &format!("data-position>{position}</"))
                .replace("data-why></", &format!("data-why>{why}</"));
            // Writing to a String does not fail.
            let _ = writeln!(
                html,
                "<section data-words=\"{name}\"{hidden}><h1>{heading}</h1><p class=\"lead\">{lead}</p></section>"
            );
        }
        html.push_str("</div>\n");
    }

    /// Words of a view, as they are true of this.
    fn said(&self, words: &'static str) -> Cow<'static, str> {
        if !self.shared {
            return Cow::Borrowed(words);
        }
        let safe = words.strip_prefix("Your files are safe. ").unwrap_or(words).to_owned();
        Cow::Owned(SHARED.iter().fold(safe, |words, (of_one, of_many)| words.replace(of_one, of_many)))
    }

    fn progress(&self, html: &mut String) {
        let at = self.view().step;
        let hidden = if at.is_some() { "" } else { " hidden" };
        let (now, words) = at.map_or((1, STEPS[0]), |at| (at + 1, STEPS[at]));
        let last = STEPS.len();
        let _ = write!(
            html,
            "<div class=\"steps\" id=\"progress\" role=\"progressbar\" aria-label=\"Until the workspace is ready\" \
             aria-valuemin=\"1\" aria-valuemax=\"{last}\" aria-valuenow=\"{now}\" aria-valuetext=\"{words}\"{hidden}>"
        );
        for (step, name) in STEPS.iter().enumerate() {
            let views = VIEWS.iter().filter(|view| view.step == Some(step)).map(|view| view.name);
            let views = views.collect::<Vec<_>>().join(" ");
            let state = match at {
                Some(at) if step < at => " data-state=\"done\"",
                Some(at) if step == at => " data-state=\"now\"",
                _ => "",
            };
            let _ = write!(html, "<span data-views=\"{views}\"{state}>{name}</span>");
        }
        html.push_str("</div>\n");
    }

    fn failure(&self, html: &mut String) {
        let (hidden, detail, class) = match &self.status.cause {
            Some(cause) if cause.notice => ("", cause.detail.as_str(), "note"),
            Some(cause) => ("", cause.detail.as_str(), "alarm"),
            None => (" hidden", "", "alarm"),
        };
        let _ = writeln!(html, "<p class=\"{class}\" id=\"cause\"{hidden}>{}</p>", escape(detail));
    }

    fn advice(&self, html: &mut String) {
        let (hidden, hint, code) = match &self.status.cause {
            Some(cause) => ("", cause.hint.as_str(), cause.code),
            None => (" hidden", "", ""),
        };
        let _ = writeln!(
            html,
            "<p class=\"small soft\" id=\"advice\"{hidden}>For the operator: <span id=\"hint\">{}</span> \
             (<code id=\"code\">{}</code>)</p>",
            escape(hint),
            escape(code)
        );
    }

    /// The buttons are forms: they work without the script, which only keeps the address's fragment.
    fn actions(&self, html: &mut String) {
        let page = escape(self.page);
        let shown = self.view().name;
        html.push_str("<p class=\"alarm\" id=\"refused\" role=\"alert\" hidden></p>\n");
        // A start that is hindered may wait long before the cluster tries again by itself.
        for (views, retry, words) in
            [("stopped stopping", false, "Start"), ("failed starting", true, "Try again")]
        {
            let applies = views.split(' ').any(|view| view == shown) && (!retry || self.is_hindered());
            let hidden = if applies { "" } else { " hidden" };
            let hindered = if retry { " data-hindered" } else { "" };
            let _ = writeln!(
                html,
                "<form class=\"actions\" method=\"post\" action=\"/.usher/start\" data-views=\"{views}\"{hindered}{hidden}>\
                 <input type=\"hidden\" name=\"retry\" value=\"{retry}\">\
                 <input type=\"hidden\" name=\"return\" value=\"{page}\">\
                 <button>{words}</button></form>"
            );
        }
    }

    fn facts(&self, html: &mut String) {
        let Status { template, since_s, .. } = self.status;
        let hidden = |hidden: bool| if hidden { " hidden" } else { "" };
        let seconds = since_s.unwrap_or_default();
        let _ = writeln!(
            html,
            "<dl class=\"facts\">\n\
             <div id=\"template-row\"{}><dt>Template</dt><dd id=\"template\">{}</dd></div>\n\
             <div id=\"elapsed-row\"{}><dt>Elapsed</dt><dd id=\"elapsed\" data-seconds=\"{seconds}\">{}</dd></div>\n</dl>",
            hidden(template.is_none() || self.shared),
            escape(template.as_deref().unwrap_or_default()),
            hidden(since_s.is_none() || !self.moves()),
            elapsed(seconds)
        );
    }

    fn output(&self, html: &mut String) {
        let log = self.status.log.as_deref().unwrap_or_default();
        let hidden = if log.is_empty() { " hidden" } else { "" };
        let _ = writeln!(
            html,
            "<details id=\"output\" open{hidden}><summary>Its output</summary>\
             <pre id=\"log\" tabindex=\"0\" aria-label=\"The last lines of its output\">{}</pre></details>",
            escape(log)
        );
    }
}

/// A time that passed, for people: `9 s`, `2 min 05 s`.
fn elapsed(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::super::status::Now;
    use super::super::status::tests::{entry, failed};
    use super::*;
    use config::WorkspaceId;
    use control::Phase;
    use std::time::{Duration, Instant};

    fn status(phase: Option<Phase>, log: Option<&str>) -> Status {
        let now = Now::read();
        let since = now.instant.checked_sub(Duration::from_secs(65)).unwrap_or(now.instant);
        let entry = phase.map(|phase| entry(phase, since));
        Status::of(&WorkspaceId::parse("alice").unwrap(), entry.as_ref(), log, now)
    }

    fn shown(status: &Status, woken: bool, page: &str) -> String {
        let origin = "http://alice.lab.localhost:8080";
        Shown { status, woken, host: "alice.lab.localhost", origin, page, shared: false }.html()
    }

    #[test]
    fn what_many_share_is_nobodys_workspace_and_keeps_nobodys_files() {
        let status = status(Some(Phase::Stopped), None);
        for view in &VIEWS {
            let shown = Shown {
                status: &status,
                woken: false,
                host: "wiki.lab.localhost",
                origin: "",
                page: "/",
                shared: true,
            };
            for words in [view.heading, view.lead] {
                let said = shown.said(words).to_lowercase();
                assert!(!said.contains("workspace") && !said.contains("your"), "{said}");
            }
        }
    }

    fn has(html: &str, parts: &[&str]) {
        for part in parts {
            assert!(html.contains(part), "{part}\nis not in\n{html}");
        }
    }

    #[test]
    fn each_phase_has_its_words_and_only_what_moves_asks_again() {
        let now = Instant::now();
        for (phase, woken, view, moves) in [
            (None, true, "starting", true),
            (None, false, "stopped", false),
            (Some(Phase::Stopped), true, "starting", true),
            (Some(Phase::Stopped), false, "stopped", false),
            (Some(Phase::Queued { position: 3 }), false, "queued", true),
            (Some(Phase::starting(control::Step::Asked)), false, "starting", true),
            (Some(Phase::stopping()), true, "restarting", true),
            (Some(Phase::stopping()), false, "stopping", false),
            (Some(failed(now)), false, "failed", false),
        ] {
            let html = shown(&status(phase, None), woken, "/");
            has(&html, &[&format!("<section data-words=\"{view}\"><h1>")]);
            assert_eq!(html.matches("<section data-words").count(), VIEWS.len());
            assert_eq!(html.matches(" hidden><h1>").count(), VIEWS.len() - 1, "{view}");
            assert_eq!(html.contains("http-equiv=\"refresh\""), moves, "{view}");
            assert_eq!(
                html.contains("id=\"progress\"") && !html.contains("\" hidden><span"),
                moves,
                "{view}"
            );
        }
    }

    #[test]
    fn the_deep_link_survives_without_a_script() {
        let page = "/lab/tree/a.ipynb?x=1&y=<b>'\"";
        let escaped = "/lab/tree/a.ipynb?x=1&amp;y=&lt;b&gt;&#39;&quot;";
        let html = shown(&status(Some(Phase::starting(control::Step::Asked)), None), false, page);
        has(&html, &[&format!("content=\"2;url=http://alice.lab.localhost:8080{escaped}\"")]);
        has(&html, &[&format!("name=\"return\" value=\"{escaped}\"")]);
    }

    #[test]
    fn a_path_that_looks_like_another_host_leads_to_this_one() {
        let html =
            shown(&status(Some(Phase::starting(control::Step::Asked)), None), false, "//evil.example/");
        has(&html, &["content=\"2;url=http://alice.lab.localhost:8080//evil.example/\""]);
    }

    #[test]
    fn a_failure_tells_its_cause_the_hint_and_the_output_and_offers_to_try_again() {
        let html = shown(&status(Some(failed(Instant::now())), Some("Traceback <module>")), false, "/");
        has(
            &html,
            &[
                "<p class=\"alarm\" id=\"cause\">It ended with &lt;code&gt; 1.</p>",
                "<span id=\"hint\">Look at its output.</span> (<code id=\"code\">crashed</code>)",
                "data-views=\"failed starting\" data-hindered><input type=\"hidden\" name=\"retry\" value=\"true\">",
                "data-views=\"stopped stopping\" hidden>",
                "<details id=\"output\" open>",
                "Traceback &lt;module&gt;",
            ],
        );
    }

    #[test]
    fn the_queue_tells_the_position_and_the_time() {
        let html = shown(&status(Some(Phase::Queued { position: 17 }), None), false, "/");
        has(&html, &["<span data-position>17</span>", "data-seconds=\"65\">1 min 05 s</dd>"]);
        has(
            &html,
            &[
                "aria-valuenow=\"1\" aria-valuetext=\"In line\"><span data-views=\"queued restarting\" data-state=\"now\">",
            ],
        );
    }

    #[test]
    fn the_script_knows_every_view() {
        for view in ["starting", "restarting"] {
            assert!(SCRIPT.contains(&format!("\"{view}\"")), "{view}");
        }
        for id in
            ["progress", "advice", "cause", "hint", "code", "refused", "elapsed", "template", "output", "log"]
        {
            assert!(SCRIPT.contains(&format!("at(\"{id}\")")), "{id}");
        }
    }

    #[test]
    fn a_start_can_be_tried_again_where_something_hinders_it() {
        let Phase::Failed { cause, .. } = failed(Instant::now()) else { panic!() };
        for (trouble, hidden) in [(Some(cause), ""), (None, " hidden")] {
            let phase = Phase::Starting { step: control::Step::Scheduling, trouble };
            let html = shown(&status(Some(phase), None), true, "/");
            assert!(
                html.contains(&format!("data-views=\"failed starting\" data-hindered{hidden}>")),
                "{html}"
            );
        }
    }

    #[test]
    fn why_it_starts_again_by_itself_is_a_note_and_asks_for_nothing() {
        let starting = |code: control::CauseCode| {
            let trouble = Some(control::Cause::from(code));
            let phase = Phase::Starting { step: control::Step::Asked, trouble };
            shown(&status(Some(phase), None), true, "/")
        };
        let again = "data-views=\"failed starting\" data-hindered";
        let note = starting(control::CauseCode::Removed);
        has(&note, &["<p class=\"note\" id=\"cause\">", "past Usher", &format!("{again} hidden>")]);
        let hindered = starting(control::CauseCode::Unschedulable);
        has(&hindered, &["<p class=\"alarm\" id=\"cause\">", &format!("{again}>")]);
    }
}

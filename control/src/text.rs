//! Text from programs that Usher does not know, made fit to be shown.

/// The last lines of an output, cleaned: at most so many lines and bytes.
pub(crate) fn last_lines(output: &str, lines: usize, bytes: usize) -> String {
    let cleaned: Vec<String> = output.lines().map(clean_line).collect();
    let mut shown = cleaned[cleaned.len().saturating_sub(lines)..].join("\n");
    if shown.len() > bytes {
        let mut cut = shown.len() - bytes;
        while !shown.is_char_boundary(cut) {
            cut += 1;
        }
        shown.drain(..cut);
    }
    shown
}

/// A line as a terminal would leave it: without escape sequences, what `\r` overwrote and control characters.
pub(crate) fn clean_line(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let mut cleaned = String::with_capacity(line.len());
    let mut characters = line[line.rfind('\r').map_or(0, |at| at + 1)..].chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => cleaned.push(' '),
            // These turn the order of the text around, also of that beside it.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other if other.is_control() => {}
            other => cleaned.push(other),
        }
    }
    cleaned
}

/// Skips what follows an ESC (ECMA-48): a control sequence, a command string, or one character.
fn skip_escape(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => {
            characters.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(character) = characters.next() {
                if character == '\u{7}' || (character == '\u{1b}' && characters.next() == Some('\\')) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_a_terminal_would_leave_it() {
        let table = [
            ("plain", "plain"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("10 %\r50 %\r100 %\r", "100 %"),
            ("a\tb\u{0}\u{8}c\u{7f}", "a bc"),
            ("user\u{202e}txt", "usertxt"),
            ("cut \u{1b}[3", "cut "),
        ];
        for (line, shown) in table {
            assert_eq!(clean_line(line), shown, "{line:?}");
        }
    }
}

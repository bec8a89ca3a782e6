//! What others wrote, made harmless where it is printed. Pure.

/// What someone else wrote, made harmless for a terminal: control characters, and marks that change the
/// direction of text, could hide or imitate what the program itself prints. Lines stay lines, indented by
/// `indent`.
pub fn harmless(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' => {
                out.push('\n');
                out.push_str(indent);
            }
            '\t' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// The same for what has one line, as titles and names have: a second one could imitate a line of the program's own.
pub fn one_line(text: &str) -> String {
    harmless(&text.trim_end().replace(['\n', '\t', '\u{2028}', '\u{2029}'], "\u{fffd}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_cannot_drive_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2Jb\r\u{202e}c\u{9b}d\u{7f}\n", ""),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d\u{fffd}"
        );
        assert_eq!(harmless("one\ntwo", "    "), "one\n    two");
        assert_eq!(harmless("Zoë ✓ 日本", ""), "Zoë ✓ 日本");
    }

    #[test]
    fn what_has_one_line_keeps_one() {
        assert_eq!(
            one_line("Bed 4\nlanyard: \x1b[2J\tsent\n"),
            "Bed 4\u{fffd}lanyard: \u{fffd}[2J\u{fffd}sent"
        );
        assert_eq!(one_line("a\r\nb\u{85}c\u{2028}d"), "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(one_line("Zoë ✓ 日本"), "Zoë ✓ 日本");
    }
}

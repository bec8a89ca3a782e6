//! `safety`: the number, and on request as a code to scan.

use lanyard_client::profile::Profile;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::{CommandError, Out, open};
use crate::cli::SafetyArgs;

pub(super) fn run(profile: &Profile, args: &SafetyArgs, out: &Out) -> Result<(), CommandError> {
    let mut app = open(profile)?;
    let view = match (&args.person, &args.conversation) {
        (_, Some(conversation)) => app.safety_of_conversation(conversation)?,
        (person, None) => app.safety_of_person(person.as_deref().unwrap_or_default())?,
    };
    drop(app);
    out.show(&view)?;
    if args.qr && !out.json {
        out.line(&drawn(&view.digits))?;
    }
    Ok(())
}

/// The digits as a code, drawn with characters: light on dark, as terminals mostly are.
fn drawn(digits: &str) -> String {
    let code = QrCode::new(digits).expect("60 digits fit into every code from version 2 on");
    code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_of_these_digits() {
        let digits = "0123456789".repeat(6);
        let lines: Vec<String> = drawn(&digits).lines().map(str::to_owned).collect();
        // 25 modules and a quiet zone of 4 on each side; a line of characters draws two rows of them.
        assert_eq!((lines.len(), lines[0].chars().count()), (17, 33), "{lines:#?}");
        assert_ne!(drawn(&digits), drawn(&"0".repeat(60)));
    }
}

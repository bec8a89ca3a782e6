//! Asking who is meant, where names are alike: on a terminal by a question, elsewhere by `--confirm`.

use std::io::{BufRead, IsTerminal, Write};

use lanyard_client::app::resemblance::Doubt;
use lanyard_client::app::{App, AppError};
use lanyard_client::profile::Profile;

use super::text::{harmless, one_line};
use super::{CommandError, Out, open};
use crate::cli::Confirm;

/// Does `work`, again if the holder, asked on the terminal, says who is meant. Nobody else is kept from the profile while
/// the question waits. Without a terminal, and where JSON is asked for, the refusal is the answer.
pub(super) fn telling_apart<T>(
    profile: &Profile,
    confirm: &Confirm,
    out: &Out,
    mut work: impl FnMut(&mut App) -> Result<T, AppError>,
) -> Result<T, CommandError> {
    let mut confirmed = confirm.confirm.clone();
    let mut asked: Vec<Doubt> = Vec::new();
    loop {
        let mut app = open(profile)?;
        app.confirm(&confirmed);
        let doubts = match work(&mut app) {
            Err(AppError::Similar(doubts)) => doubts,
            other => return Ok(other?),
        };
        drop(app);
        let is_asked_again = doubts.iter().any(|doubt| asked.contains(doubt));
        let (input, output) = (std::io::stdin(), std::io::stderr());
        if out.json || is_asked_again || !input.is_terminal() || !output.is_terminal() {
            return Err(AppError::Similar(doubts).into());
        }
        for doubt in &doubts {
            if !is_meant(doubt, &mut input.lock(), &mut output.lock())? {
                return Err(CommandError::Declined);
            }
            confirmed.push(doubt.confirmed_by.clone());
        }
        asked.extend(doubts);
    }
}

/// Asks; everything but a yes is a no.
fn is_meant(doubt: &Doubt, input: &mut impl BufRead, output: &mut impl Write) -> Result<bool, CommandError> {
    let question = harmless(&doubt.to_string(), "");
    write!(output, "{question}\nIs this whom you mean: {}? [y/N] ", one_line(&doubt.person))
        .and_then(|()| output.flush())
        .map_err(CommandError::Output)?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(CommandError::Input)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_both_and_only_a_yes_is_one() {
        let other = lanyard_client::app::view::ResemblanceView {
            name: "Ada Okafour".into(),
            role: Some("Registrar".into()),
            trust: "RXH".into(),
            registration: None,
            known: "found in the directory".into(),
            differences: vec!["trust (RXH, not RTD)".into()],
        };
        let doubt = Doubt {
            person: "Ada Okafor, Registrar (RTD)".into(),
            invited: false,
            confirmed_by: "Ada Okafor@RTD".into(),
            others: vec![other],
        };
        let ask = |answer: &str| {
            let mut shown = Vec::new();
            let meant = is_meant(&doubt, &mut answer.as_bytes(), &mut shown).unwrap();
            (meant, String::from_utf8(shown).unwrap())
        };
        for (answer, meant) in [("y\n", true), ("Yes\n", true), ("n\n", false), ("\n", false), ("", false)] {
            assert_eq!(ask(answer).0, meant, "{answer:?}");
        }
        let (_, shown) = ask("n\n");
        for part in ["Ada Okafor, Registrar (RTD)", "Ada Okafour, Registrar (RXH)", "trust (RXH, not RTD)"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}

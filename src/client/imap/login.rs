//! The login: by LOGIN, or by AUTHENTICATE (RFC 4959's one exchange is not used) where the server takes no
//! LOGIN, and with a token of OAuth 2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Account, Failed, Proof, Session, starts_word};
use crate::outcome::{ReasonCode, Trouble};

/// What a server says that it offers, in capitals; None where it does not say.
pub(super) fn offered(text: &str) -> Option<Vec<String>> {
    let listed = match text.split_once("[CAPABILITY ") {
        Some((_, rest)) => rest.split_once(']')?.0,
        None => text.strip_prefix("* CAPABILITY ")?,
    };
    Some(listed.split_ascii_whitespace().map(str::to_owned).collect())
}

impl Session<'_> {
    /// A refusal is told by its code alone: what else stands there may be what we sent.
    pub(super) async fn log_in(
        &mut self,
        account: &Account,
        offered: Option<Vec<String>>,
    ) -> Result<(), Trouble> {
        let offered = match offered {
            Some(offered) => offered,
            None => self.offers().await?,
        };
        let failed = match self.prove(account, &offered).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let Some(said) = failed.said else { return Err(failed.trouble) };
        let code = said.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let code = code.map(|(code, _)| code.split(' ').next().unwrap_or_default());
        let is_code = |code: &&str| {
            code.len() < 32 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
        };
        let code = code.filter(is_code).unwrap_or("no reason");
        let text = format!("{} refused the login of {}: {code}", self.to, account.user);
        // RFC 5530: the server can't check it now.
        let kind = match code {
            "UNAVAILABLE" | "LIMIT" | "INUSE" => ReasonCode::UnexpectedStatus,
            _ => ReasonCode::AuthFailed,
        };
        Err(Trouble::reason(kind, text))
    }

    async fn offers(&mut self) -> Result<Vec<String>, Trouble> {
        let said = self.ask("CAPABILITY", &[]).await?;
        let listed = said.iter().find_map(|one| offered(&one.text.to_ascii_uppercase()));
        listed.ok_or_else(|| self.odd("it does not say what it offers", b""))
    }

    async fn prove(&mut self, account: &Account, offered: &[String]) -> Result<(), Failed> {
        let offers = |name: &str| offered.iter().any(|own| own == name);
        let user = account.user.as_str();
        match &account.proof {
            Proof::Password(password) => {
                let password = password.reveal().map_err(Trouble::from)?;
                let password = password.expose();
                if !offers("LOGINDISABLED") {
                    return self.try_ask("LOGIN", &[user, password]).await.map(drop);
                }
                if offers("AUTH=PLAIN") {
                    let shown = format!("\0{user}\0{password}");
                    return self.authenticate("PLAIN", &shown).await;
                }
                Err(self.takes_none("password here: neither LOGIN nor AUTHENTICATE PLAIN"))
            }
            Proof::Token(token) => {
                let token = token.reveal().map_err(Trouble::from)?;
                let token = token.expose();
                if offers("AUTH=OAUTHBEARER") {
                    // RFC 7628, with the name as RFC 5801 writes it.
                    let name = user.replace('=', "=3D").replace(',', "=2C");
                    let Account { host, port, .. } = account;
                    let shown = format!(
                        "n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
                    );
                    return self.authenticate("OAUTHBEARER", &shown).await;
                }
                if offers("AUTH=XOAUTH2") {
                    let shown = format!("user={user}\x01auth=Bearer {token}\x01\x01");
                    return self.authenticate("XOAUTH2", &shown).await;
                }
                Err(self.takes_none("token here: neither OAUTHBEARER nor XOAUTH2"))
            }
        }
    }

    fn takes_none(&self, what: &str) -> Failed {
        let text = format!("{} takes no {what}", self.to);
        Trouble::reason(ReasonCode::AuthFailed, text).into()
    }

    async fn authenticate(&mut self, mechanism: &str, shown: &str) -> Result<(), Failed> {
        const COMMAND: &str = "AUTHENTICATE";
        self.tag += 1;
        let tag = format!("g{}", self.tag);
        self.trace.note(format_args!("{}: {COMMAND} {mechanism}", self.to));
        self.send(&format!("{tag} {COMMAND} {mechanism}\r\n")).await?;
        self.may_go_on(&tag, COMMAND).await?;
        self.send(&format!("{}\r\n", STANDARD.encode(shown))).await?;
        loop {
            let response = self.response().await?;
            if response.text.strip_prefix(&tag).is_some_and(|rest| starts_word(rest, " OK")) {
                return Ok(());
            }
            self.refused(&tag, COMMAND, &response.text)?;
            // Why a token is refused; the refusal itself comes once that was heard.
            if response.text.starts_with('+') {
                let heard = if mechanism == "OAUTHBEARER" { "AQ==\r\n" } else { "\r\n" };
                self.send(heard).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_offers_stands_in_its_greeting_or_in_its_answer() {
        let listed = |text: &str| offered(text).map(|all| all.join(","));
        assert_eq!(listed("* OK [CAPABILITY A B=C] HI"), Some("A,B=C".into()));
        assert_eq!(listed("* CAPABILITY A B=C"), Some("A,B=C".into()));
        for none in ["* OK HI", "* OK [CAPABILITY A", "* CAPABILITY"] {
            assert_eq!(listed(none), None, "{none}");
        }
    }
}

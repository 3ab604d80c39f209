//! Postfix and Dovecot: mail for example.com is taken by SMTP and read by IMAP. `soc` takes what
//! comes; `full` is full.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::unistd::User;

use super::{Process, folder, free_port, run};

pub(crate) struct Mail {
    pub(crate) smtp: u16,
    /// Without TLS; the password is "secret".
    pub(crate) imap: u16,
    /// Their own users must be able to walk there, as they may not through a home folder.
    _folder: tempfile::TempDir,
    postfix: Process,
    dovecot: Process,
}

/// The owner of the mailboxes: nobody.
const NOBODY: u32 = 65_534;

impl Mail {
    pub(crate) fn start() -> Self {
        let logs = folder("mail");
        let held = tempfile::tempdir().expect("a folder can be made");
        let at = held.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("it is ours");
        for name in ["conf", "queue", "data", "boxes"] {
            fs::create_dir(at.join(name)).expect("the folder can be written");
        }
        let postfix = User::from_name("postfix").expect("users can be asked for");
        let postfix = postfix.expect("postfix is missing: run tests/run, or as root: apt-get install --no-install-recommends postfix dovecot-imapd dovecot-lmtpd");
        chown(at.join("data"), Some(postfix.uid.as_raw()), None).expect("root may");
        chown(at.join("boxes"), Some(NOBODY), Some(NOBODY)).expect("root may");
        let [smtp, lmtp, imap] = [(); 3].map(|()| free_port());
        let words = [
            ("@FOLDER@", at.display().to_string()),
            ("@SMTP@", smtp.to_string()),
            ("@LMTP@", lmtp.to_string()),
            ("@IMAP@", imap.to_string()),
        ];
        let files = [
            ("conf/main.cf", include_str!("../../peers/mail/main.cf")),
            ("conf/master.cf", include_str!("../../peers/mail/master.cf")),
            ("dovecot.conf", include_str!("../../peers/mail/dovecot.conf")),
            ("users", include_str!("../../peers/mail/users")),
        ];
        for (name, text) in files {
            let text = words.iter().fold(text.to_owned(), |text, (w, v)| text.replace(w, v));
            fs::write(at.join(name), text).expect("the folder can be written");
        }
        let conf = at.join("conf").display().to_string();
        Self::lists_of_debian(Path::new(&conf));
        let checked = run("postfix", "postfix", &["-c", &conf, "check"], "");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let mut postfix = Process::start(
            "/usr/lib/postfix/sbin/master",
            "postfix",
            &["-c", &conf, "-d"],
            &logs.join("postfix.log"),
        );
        let mut dovecot = Process::start(
            "dovecot",
            "dovecot-imapd dovecot-lmtpd",
            &["-F", "-c", &at.join("dovecot.conf").display().to_string()],
            &logs.join("dovecot.log"),
        );
        let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        postfix.wait_until(|| listens(smtp));
        dovecot.wait_until(|| listens(lmtp) && listens(imap));
        Self { smtp, imap, _folder: held, postfix, dovecot }
    }

    /// What the package says of its files and of what it can load: another folder of settings must
    /// have it too.
    fn lists_of_debian(conf: &Path) {
        for entry in fs::read_dir("/etc/postfix").expect("it is installed").flatten() {
            let name = entry.file_name();
            let of_the_package = ["dynamicmaps.cf", "postfix-files"].iter().any(|n| name == *n);
            if of_the_package {
                fs::copy(entry.path(), conf.join(name)).expect("the folder can be written");
            }
        }
    }
}

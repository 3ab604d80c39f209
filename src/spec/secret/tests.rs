use std::io::Write as _;

use super::*;

fn code(result: Result<Revealed, Fault>) -> (FaultCode, String) {
    let fault = result.expect_err("a fault");
    (fault.code, fault.text)
}

#[test]
fn a_secret_prints_its_reference_only() {
    let secrets = [
        (Secret::env("TOKEN"), "{env: TOKEN}", r#"{"env":"TOKEN"}"#),
        (Secret::file("/run/token"), "{file: /run/token}", r#"{"file":"/run/token"}"#),
        (
            Secret::command(vec!["vault".into(), "read".into()]),
            "{command: [vault, read]}",
            r#"{"command":["vault","read"]}"#,
        ),
    ];
    for (secret, shown, json) in secrets {
        assert_eq!(format!("{secret}"), shown);
        assert_eq!(format!("{secret:?}"), shown);
        assert_eq!(serde_json::to_string(&secret).expect("JSON"), json);
        let back: Secret = serde_json::from_str(json).expect("reads");
        assert_eq!(back, secret);
    }
    let revealed = Revealed("hunter2".into());
    assert_eq!(format!("{revealed} {revealed:?}"), "[secret] [secret]");
    assert_eq!(revealed.expose(), "hunter2");
}

#[test]
fn the_schema_takes_references_only() {
    let schema = serde_json::to_value(schemars::schema_for!(Secret)).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    for json in [
        serde_json::json!({"env": "TOKEN"}),
        serde_json::json!({"file": "/run/token"}),
        serde_json::json!({"command": ["vault", "read"]}),
    ] {
        assert!(validator.is_valid(&json), "{json}");
        assert!(serde_json::from_value::<Secret>(json).is_ok());
    }
    for json in [
        serde_json::json!("hunter2"),
        serde_json::json!({"value": "hunter2"}),
        serde_json::json!({"env": "A", "file": "b"}),
        serde_json::json!({"command": "vault"}),
    ] {
        assert!(!validator.is_valid(&json), "{json}");
        assert!(serde_json::from_value::<Secret>(json).is_err());
    }
    for empty in [serde_json::json!({"env": ""}), serde_json::json!({"command": []})] {
        assert!(serde_json::from_value::<Secret>(empty).is_err());
    }
}

#[test]
fn a_variable_is_read() {
    // PATH is set wherever tests run.
    let path = std::env::var("PATH").expect("PATH");
    assert_eq!(Secret::env("PATH").reveal().expect("set").expose(), path);
    let missing = Secret::env("GREENLIGHT_TEST_NOT_SET").reveal();
    assert_eq!(
        code(missing),
        (
            FaultCode::Unreadable,
            "the environment variable `GREENLIGHT_TEST_NOT_SET` is not set".into()
        )
    );
}

#[test]
fn a_file_is_read_anew_each_time() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let secret = Secret::file(file.path().display().to_string());
    file.write_all(b"one\r\n").expect("written");
    assert_eq!(secret.reveal().expect("read").expose(), "one");
    file.write_all(b"two\n\n").expect("written");
    assert_eq!(secret.reveal().expect("read").expose(), "one\r\ntwo\n");
    file.write_all(&[0xff]).expect("written");
    assert!(code(secret.reveal()).1.ends_with("is not UTF-8 text"));
    file.write_all(&vec![b'x'; 64 << 10]).expect("written");
    assert!(code(secret.reveal()).1.ends_with("is larger than 64 KiB"));
    std::fs::write(file.path(), "\n").expect("written");
    assert!(code(secret.reveal()).1.ends_with("is empty"));
    assert!(code(Secret::file("/").reveal()).1.ends_with("this is no file"));
    assert!(code(Secret::file("/nowhere/at/all").reveal()).1.contains("No such file"));
}

#[test]
fn a_command_is_run_once_and_shared() {
    let words = |words: &[&str]| Secret::command(words.iter().map(|w| (*w).to_owned()).collect());
    let secret = words(&["sh", "-c", "echo hunter2"]);
    let copy = secret.clone();
    assert!(code(secret.reveal()).1.ends_with("it has given none yet"));
    secret.load().expect("runs");
    assert_eq!(copy.reveal().expect("shared").expose(), "hunter2");
    assert!(!format!("{secret:?}{:?}", secret.cached).contains("\"hunter2\""));
    for (command, text) in [
        (&["sh", "-c", "exit 3"][..], "it ended with exit status: 3"),
        (&["/nowhere/at/all"], "No such file"),
        (&["sh", "-c", "head -c 70000 /dev/zero"], "it printed more than 64 KiB"),
        (&["printf", "\\377"], "it printed no UTF-8 text"),
        (&["true"], "it printed nothing"),
    ] {
        let secret = words(command);
        let fault = secret.load().expect_err("fails");
        assert!(fault.text.contains(text), "{fault}");
        // Whoever needs it later is told the same; arguments may be secrets too.
        assert_eq!(code(secret.reveal()).1, fault.text);
        assert!(!fault.text.contains("-c"), "{fault}");
    }
}

#[test]
fn a_command_that_hangs_is_ended() {
    let began = Mono::now();
    let secret = Secret::command(vec!["sleep".into(), "60".into()]);
    let fault = secret.load().expect_err("too late");
    assert!(fault.text.contains("no answer within 10 s"), "{fault}");
    let took = Mono::now().since(began);
    assert!(took >= COMMAND_DEADLINE && took < COMMAND_DEADLINE * 2, "{took:?}");
}

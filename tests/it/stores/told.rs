//! Notifications that something writes to a file.

use std::fs::OpenOptions;
use std::io::Write;

use greenlight::confirm::file::File;
use greenlight::journey::Stage;

use super::*;

#[tokio::test]
async fn a_file_shows_the_notifications_that_name_the_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("told.log");
    let write = |line: &str| {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        writeln!(file.expect("the folder can be written"), "{line}").expect("there is room");
    };
    let watch = |more: Value, stage| {
        let mut spec = json!({"path": path});
        spec.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("one"));
        Watch::<File>::new(spec, Sought { stage, ..round(3) })
    };
    write(&format!("page the analyst: {RUN} failed before"));
    let mut any = watch(json!({}), Stage::Notified);
    let mut named = watch(json!({"match": {"alert.name": "SSH of {run}"}}), Stage::Notified);
    let mut alerts = watch(json!({}), Stage::Alerted);
    let mut stored = watch(json!({}), Stage::Stored);
    for watch in [&mut any, &mut named, &mut alerts, &mut stored] {
        watch.begin().await.expect("it can begin");
        assert_eq!(saw(&watch.look().await), ("complete", 0), "what was there before is not new");
    }
    // A rule that sums up names the round and none of its events; another round's is not ours.
    write(&json!({"alert": {"name": format!("SSH of {RUN}")}, "severity": "high"}).to_string());
    write(&json!({"alert": {"name": format!("SSH of {OTHER}")}}).to_string());
    write("page the analyst: somebody failed");
    let three: Vec<String> = events(RUN, 3).iter().map(|event| event.token.clone()).collect();
    write(&format!("page the analyst: {}", three.join(", ")));
    let look = named.look().await;
    assert_eq!(saw(&look), ("complete", 1));
    assert_eq!(look.arrivals[0].fields.as_ref().expect("fields")["severity"], "high");
    // One line is one notification, whatever it tells of.
    assert_eq!(saw(&any.look().await), ("complete", 2));
    assert_eq!(saw(&alerts.look().await), ("complete", 2));
    assert_eq!(seqs(&stored.look().await).len(), 3);
    assert_eq!(saw(&any.look().await), ("complete", 0), "each is told once");
    let gone = json!({"path": folder.path().join("no/such/folder.log")});
    let mut gone = Watch::<File>::new(gone, Sought { stage: Stage::Notified, ..round(3) });
    assert!(gone.begin().await.is_err());
}

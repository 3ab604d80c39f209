//! What people call a group: its systemd unit, its container, its pod.

/// Labels are no longer than this.
const NAME_LIMIT: usize = 64;

/// As much of a container's id as its tools show.
const ID_SHOWN: usize = 12;

/// The name of the group at this path, relative to the root; None for those in between, as slices,
/// and for what services and containers make inside themselves.
pub(super) fn name(path: &str, leaf: bool) -> Option<String> {
    let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(known) = known(last) {
        return Some(plain(&known));
    }
    let slice = last.ends_with(".slice");
    let inside = parents.split('/').any(|parent| known(parent).is_some());
    (leaf && !slice && !inside && !last.is_empty()).then(|| plain(last))
}

/// The unit of systemd and the container that a process at this path belongs to.
pub(in crate::node) fn place(path: &str) -> (Option<String>, Option<String>) {
    let mut found = (None, None);
    for component in path.split('/') {
        if let Some(id) = container(component) {
            found.1 = Some(plain(id));
        } else if component.ends_with(".service") || component.ends_with(".scope") {
            // The innermost: a user's services are below the manager of the user.
            found.0 = Some(plain(component));
        }
    }
    found
}

/// The name where two would be called the same: with the group above.
pub(super) fn longer(path: &str, name: &str) -> String {
    let above = path.rsplit_once('/').and_then(|(parents, _)| parents.rsplit('/').next());
    plain(&format!("{}/{name}", above.unwrap_or_default()))
}

fn known(component: &str) -> Option<String> {
    if let Some(id) = container(component) {
        return Some(format!("container/{id}"));
    }
    if let Some(uid) = pod(component) {
        return Some(format!("pod/{uid}"));
    }
    let unit = component.ends_with(".service") || component.ends_with(".scope");
    unit.then(|| component.to_owned())
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope` with systemd
/// as the driver; the bare id without.
fn container(component: &str) -> Option<&str> {
    let scope = component.strip_suffix(".scope").unwrap_or(component);
    let id = scope.rsplit_once('-').map_or(scope, |(_, id)| id);
    // 32 digits are systemd's invocation or machine ids, and of some small engines.
    let hexadecimal = matches!(id.len(), 32 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| id.get(..ID_SHOWN)).flatten()
}

/// `podUID` without systemd, `kubepods-burstable-podU_I_D.slice` with it.
fn pod(component: &str) -> Option<String> {
    let bare = component.strip_suffix(".slice").unwrap_or(component);
    let uid = bare.strip_prefix("pod").or_else(|| bare.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let fits = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b"-_".contains(&b));
    fits.then(|| uid.replace('_', "-"))
}

fn plain(name: &str) -> String {
    let graphic = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    name.chars().take(NAME_LIMIT).map(graphic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c81d4e7b6a5f0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9d0e1f2a3";

    #[test]
    fn groups_are_called_what_people_call_them() {
        for (path, expected) in [
            ("system.slice/nginx.service", Some("nginx.service")),
            ("user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            (&format!("system.slice/docker-{ID}.scope"), Some("container/3f2a9c81d4e7")),
            (&format!("docker/{ID}"), Some("container/3f2a9c81d4e7")),
            (&format!("machine.slice/libpod-{ID}.scope"), Some("container/3f2a9c81d4e7")),
            (
                &format!(
                    "kubepods.slice/kubepods-burstable.slice/\
                     kubepods-burstable-podb3f1c2d4_0000_4a5b_8c9d_112233445566.slice/\
                     cri-containerd-{ID}.scope"
                ),
                Some("container/3f2a9c81d4e7"),
            ),
            (
                "kubepods.slice/kubepods-burstable.slice/\
                 kubepods-burstable-podb3f1c2d4_0000_4a5b_8c9d_112233445566.slice",
                Some("pod/b3f1c2d4-0000-4a5b-8c9d-112233445566"),
            ),
            (
                "kubepods/besteffort/podb3f1c2d4-0000-4a5b-8c9d-112233445566",
                Some("pod/b3f1c2d4-0000-4a5b-8c9d-112233445566"),
            ),
            ("system.slice", None),
            ("kubepods/besteffort", Some("besteffort")),
            ("system.slice/nginx.service/worker", None),
            ("benchmark", Some("benchmark")),
            ("a b\"\n", Some("a_b\"_")),
            ("", None),
        ] {
            assert_eq!(name(path, true).as_deref(), expected, "{path}");
        }
        assert_eq!(name("kubepods/besteffort", false), None);
        assert_eq!(longer("user.slice/a.service", "a.service"), "user.slice/a.service");
    }

    #[test]
    fn a_process_belongs_to_a_unit_and_a_container() {
        for (path, unit, container) in [
            ("/system.slice/ssh.service", Some("ssh.service"), None),
            (
                "/user.slice/user-0.slice/user@0.service/app.slice/web.service",
                Some("web.service"),
                None,
            ),
            ("/system.slice/nginx.service/worker", Some("nginx.service"), None),
            (&format!("/docker/{ID}"), None, Some("3f2a9c81d4e7")),
            (&format!("/system.slice/docker-{ID}.scope"), None, Some("3f2a9c81d4e7")),
            (
                &format!("/machine.slice/libpod-{ID}.scope/container/system.slice/a.service"),
                Some("a.service"),
                Some("3f2a9c81d4e7"),
            ),
            ("/", None, None),
            ("", None, None),
        ] {
            let expected = (unit.map(str::to_owned), container.map(str::to_owned));
            assert_eq!(place(path), expected, "{path}");
        }
    }

    #[test]
    fn names_are_short_and_plain_whatever_a_group_is_called() {
        let tried = std::cell::Cell::new(0);
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&("\\PC{0,200}", proptest::bool::ANY), |(path, leaf)| {
                tried.set(tried.get() + 1);
                if let Some(name) = name(&path, leaf) {
                    let longer = longer(&path, &name);
                    proptest::prop_assert!(!name.is_empty());
                    for text in [name, longer] {
                        proptest::prop_assert!(text.len() <= NAME_LIMIT);
                        proptest::prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
                    }
                }
                Ok(())
            })
            .unwrap();
        eprintln!("property node cgroup names: {} inputs", tried.get());
    }
}

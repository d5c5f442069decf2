//! The rules stay free of I/O: the crate depends on no runtime, server or database.

use std::process::Command;

#[test]
fn the_dependency_tree_has_no_runtime_server_or_database() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", "control-domain"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("names of crates");
    let names = tree.lines().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>();
    assert!(names.contains(&"serde"), "{names:?}");
    for banned in ["tokio", "axum", "hyper", "redb", "rustls", "quinn"] {
        assert!(!names.contains(&banned), "{banned} in {names:?}");
    }
}

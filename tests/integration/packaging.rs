//! The files that an operator installs, tested without an installation: the units, the files of the
//! package, the manual page. `make test-package` tests the package itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::Workdir;

/// Maximum exposure of the service according to `systemd-analyze security`, in tenths: 0 is fully
/// confined, 100 unconfined.
const EXPOSURE: &str = "20";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The files in a folder of the project, by name.
fn files_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|err| panic!("{folder}: {err}"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// A folder with the units, with the built program and these drop-ins.
fn units(drop_ins: &[&str]) -> Workdir {
    let workdir = Workdir::new("units");
    for file in files_in("systemd") {
        let text = fs::read_to_string(&file).expect("a unit");
        let text =
            text.replace("/usr/bin/streamforge ", concat!(env!("CARGO_BIN_EXE_streamforge"), " "));
        fs::write(workdir.path().join(name(&file)), text).expect("a copy");
    }
    let folder = workdir.path().join("streamforge.service.d");
    fs::create_dir(&folder).expect("a folder");
    for drop_in in drop_ins {
        let from = root().join("systemd/streamforge.service.d").join(drop_in);
        fs::copy(from, folder.join(drop_in)).expect("a copy");
    }
    workdir
}

fn analyze(units: &Workdir, args: &[&str]) -> Output {
    let output = Command::new("systemd-analyze")
        .args(args)
        .args(["--man=no", "--no-pager"])
        .args(
            ["streamforge.service", "streamforge.socket", "streamforge-quic.socket"]
                .map(|unit| units.path().join(unit)),
        )
        .output();
    output.expect("systemd-analyze, of Debian's systemd")
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const DROP_INS: [&[&str]; 4] = [&[], &["gpu.conf"], &["low-ports.conf"], &["no-runtime-code.conf"]];

#[test]
fn systemd_analyze_verifies_the_units() {
    for drop_ins in DROP_INS {
        let output = analyze(&units(drop_ins), &["verify"]);
        assert!(output.status.success(), "{drop_ins:?}: {}", output_text(&output));
        assert_eq!(output_text(&output), "", "{drop_ins:?}");
    }
}

#[test]
fn the_exposure_of_the_service_is_low_with_each_drop_in() {
    for drop_ins in DROP_INS {
        let units = units(drop_ins);
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE])
            .arg(units.path().join("streamforge.service"))
            .output()
            .expect("systemd-analyze, of Debian's systemd");
        assert!(output.status.success(), "{drop_ins:?}: {}", output_text(&output));
        assert!(
            output_text(&output).contains("Overall exposure level"),
            "{}",
            output_text(&output)
        );
    }
}

/// `Key=value` of a unit, all of them.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(move |(name, _)| *name == key).map(|(_, value)| value)
}

#[test]
fn the_package_creates_the_service_user_with_access_to_the_configuration() {
    let unit = read("systemd/streamforge.service");
    let user = values(&unit, "User").next().expect("a user");
    assert!(read("packaging/sysusers.conf").contains(&format!("\nu {user} ")));
    let file = values(&unit, "ExecStart").next().expect("a command");
    let file =
        file.split_once("--config ").expect("a configuration").1.split(' ').next().expect("a file");
    let rule = read("packaging/tmpfiles.conf");
    let rule =
        rule.lines().find(|line| line.contains(file)).unwrap_or_else(|| panic!("{file} in {rule}"));
    assert_eq!(rule.split_whitespace().collect::<Vec<_>>(), ["z", file, "0640", "root", user, "-"]);
}

#[test]
fn the_socket_units_open_the_addresses_of_the_configuration() {
    let config: toml::Table = read("conf/streamforge.toml").parse().expect("TOML");
    let listen =
        |section: &str| config[section]["listen"].as_str().expect("one address").to_owned();
    let streams = read("systemd/streamforge.socket").replace("#ListenStream", "ListenStream");
    let opened: Vec<_> = values(&streams, "ListenStream").collect();
    assert_eq!(opened, ["rtmp", "http", "rtmps", "https"].map(listen));
    let datagrams = read("systemd/streamforge-quic.socket");
    assert_eq!(values(&datagrams, "ListenDatagram").collect::<Vec<_>>(), [listen("https")]);
}

fn package() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    manifest["package"]["metadata"]["deb"].as_table().expect("[package.metadata.deb]").clone()
}

#[test]
fn the_package_contains_every_file_to_install() {
    let package = package();
    let assets = package["assets"]
        .as_array()
        .expect("assets")
        .iter()
        .map(|asset| asset[0].as_str().expect("a path"));
    let assets: Vec<_> = assets.filter(|path| !path.starts_with("target/")).collect();
    let is_packaged = |file: &Path| {
        let path = file.strip_prefix(root()).expect("a file of the project").to_string_lossy();
        let matches = |asset: &&str| match asset.split_once('*') {
            Some((before, after)) => path.starts_with(before) && path.ends_with(after),
            None => **asset == *path,
        };
        assets.iter().any(matches)
    };
    for asset in &assets {
        let found = match asset.split_once("/*") {
            Some((folder, _)) => root().join(folder).is_dir(),
            None => root().join(asset).is_file(),
        };
        assert!(found, "{asset} is not there");
    }
    let folders = [
        "systemd",
        "systemd/streamforge.service.d",
        "packaging",
        "conf/examples",
        "conf/grafana",
        "conf/prometheus",
    ];
    for file in folders.into_iter().flat_map(files_in) {
        assert!(is_packaged(&file), "{} is in no package", file.display());
    }
}

#[test]
fn the_package_depends_on_the_required_gstreamer_plugins() {
    let package = package();
    let depends = package["depends"].as_str().expect("depends");
    let makefile = read("Makefile");
    for plugin in transcoder::elements::PACKAGES.split_whitespace() {
        assert!(depends.contains(plugin), "{plugin} in depends");
        assert!(makefile.contains(plugin), "{plugin} in the Makefile");
    }
}

#[test]
fn maintainer_scripts_and_the_deploy_hook_have_valid_shell_syntax() {
    let scripts = ["preinst", "postinst", "prerm", "postrm"]
        .map(|script| format!("packaging/debian/{script}"));
    let scripts = scripts.into_iter().chain(["packaging/certbot-deploy-hook".into()]);
    let mut count = 0;
    for script in scripts.map(|script| root().join(script)).filter(|script| script.exists()) {
        let output = Command::new("sh").arg("-n").arg(&script).output().expect("a shell");
        assert!(output.status.success(), "{}: {}", script.display(), output_text(&output));
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn the_manual_page_documents_each_command_and_option() {
    let page = read("packaging/streamforge.1").replace("\\-", "-");
    for command in [&[][..], &["serve"], &["check"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_streamforge")).args(command).arg("--help").output();
        let help = output_text(&output.expect("the program runs"));
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let options: Vec<_> =
            words.filter(|word| word.starts_with("--") && word.len() > 2).collect();
        assert!(!options.is_empty(), "{help}");
        for option in options {
            assert!(page.contains(option), "{option}, of {command:?}, is not in the manual page");
        }
    }
    for command in ["serve", "check"] {
        assert!(page.contains(&format!(".B {command}\n")), "{command}");
    }
}

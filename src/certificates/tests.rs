use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// The folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("streamforge-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Files {
        Files { cert: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate for `name`, valid until the end of `year`, and its key.
fn make(name: &str, year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned(), "192.0.2.7".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn write(files: &Files, (cert, key): &(String, String)) {
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
}

fn shown(certificates: &Certificates) -> Vec<String> {
    let chain = certificates.current.load_full().cert.clone();
    Facts::read(&chain[0]).unwrap().names
}

#[test]
fn names_and_dates_are_read() {
    let folder = Folder::new("facts");
    let files = folder.files();
    write(&files, &make("one.example", 2199));
    let facts = files.load().unwrap().facts;
    assert_eq!(facts.names, ["one.example", "192.0.2.7"]);
    assert_eq!(
        humantime::format_rfc3339_seconds(facts.not_after).to_string(),
        "2199-12-31T00:00:00Z"
    );
    assert!(!facts.is_soon_over(SystemTime::now()));
    assert!(facts.is_soon_over(facts.not_after - Duration::from_secs(86_400)));
    assert_eq!(facts.left(facts.not_after + Duration::from_secs(1)), None);
}

#[test]
fn certificate_errors_name_the_file_and_the_cause() {
    let folder = Folder::new("wrong");
    let files = folder.files();
    let said = || files.load().unwrap_err().to_string();
    assert!(said().starts_with(&files.cert.display().to_string()), "{}", said());
    let (one, other) = (make("one.example", 2199), make("other.example", 2199));
    write(&files, &("nothing".into(), one.1.clone()));
    assert!(said().contains("cert.pem: no certificate in PEM"), "{}", said());
    write(&files, &(one.0.clone(), "nothing".into()));
    assert!(said().contains("key.pem: no private key in PEM"), "{}", said());
    write(&files, &(one.0.clone(), other.1));
    assert!(said().contains("do not match"), "{}", said());
    let body = one.1.lines().nth(1).unwrap().to_owned();
    assert!(!said().contains(&body), "a key is never shown");
}

#[test]
fn a_changed_certificate_pair_is_loaded_and_a_broken_one_is_not() {
    let folder = Folder::new("changed");
    let files = folder.files();
    let (one, two) = (make("one.example", 2198), make("two.example", 2199));
    write(&files, &one);
    let certificates = Certificates::load(files.clone()).unwrap();
    let until = certificates.metrics.not_after.get();
    let count = |result| certificates.metrics.reloads.get_or_create(&ResultLabel { result }).get();
    certificates.look_again();
    assert_eq!(count("taken"), 0, "nothing has changed");

    // One file after the other: the state in between causes no error, unless it stays.
    fs::write(&files.cert, &two.0).unwrap();
    certificates.look_again();
    assert_eq!(shown(&certificates)[0], "one.example");
    fs::write(&files.key, &two.1).unwrap();
    certificates.look_again();
    assert_eq!(shown(&certificates)[0], "two.example");
    assert!(certificates.metrics.not_after.get() > until);
    assert_eq!((count("taken"), count("failed")), (1, 0));

    fs::write(&files.key, &one.1).unwrap();
    for _ in 0..4 {
        certificates.look_again();
    }
    assert_eq!(shown(&certificates)[0], "two.example");
    assert_eq!((count("taken"), count("failed")), (1, 1), "told once");
    fs::write(&files.key, &two.1).unwrap();
    certificates.look_again();
    assert_eq!(count("failed"), 1);
}

#[test]
fn a_reload_may_name_other_files_and_invalid_ones_change_nothing() {
    let (first, second) = (Folder::new("first"), Folder::new("second"));
    write(&first.files(), &make("one.example", 2199));
    let certificates = Certificates::load(first.files()).unwrap();
    certificates.reload(second.files()).unwrap_err();
    assert_eq!(shown(&certificates)[0], "one.example");
    write(&second.files(), &make("two.example", 2199));
    certificates.reload(second.files()).unwrap();
    assert_eq!(shown(&certificates)[0], "two.example");
}

#[test]
fn a_self_signed_certificate_is_made_once_and_readable_only_by_its_owner() {
    let folder = Folder::new("self-signed");
    let data_dir = folder.0.join("data");
    let files = keep_self_signed(&data_dir).unwrap();
    let facts = files.load().unwrap().facts;
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(facts.names.iter().any(|named| named == name), "{facts}");
    }
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&files.key), mode(&data_dir.join("tls"))), (0o600, 0o700));
    let key = fs::read(&files.key).unwrap();
    assert_eq!(keep_self_signed(&data_dir).unwrap(), files);
    assert_eq!(fs::read(&files.key).unwrap(), key);

    // An expired certificate is replaced.
    let old = make("localhost", 2001);
    write(&files, &old);
    keep_self_signed(&data_dir).unwrap();
    assert_ne!(fs::read_to_string(&files.key).unwrap(), old.1);
}

#[test]
fn a_self_signed_pair_of_which_one_file_was_replaced_is_made_again() {
    let folder = Folder::new("half-replaced");
    let files = keep_self_signed(&folder.0).unwrap();
    let next = make("localhost", 2199);
    for (file, content) in [(&files.key, &next.1), (&files.cert, &next.0)] {
        fs::write(file, content).unwrap();
        files.load().unwrap_err();
        assert_eq!(keep_self_signed(&folder.0).unwrap(), files);
        files.load().unwrap();
        assert_ne!(&fs::read_to_string(file).unwrap(), content);
    }
    // A file that is no certificate or key is left for the operator.
    fs::write(&files.key, "nothing").unwrap();
    keep_self_signed(&folder.0).unwrap_err();
    assert_eq!(fs::read_to_string(&files.key).unwrap(), "nothing");
}

//! Checks whether `serve` would run: the configuration, the GStreamer elements, the certificate,
//! the ports, and the limits of the machine. Prints a report in which each fault has its remedy.

use std::{
    env,
    io::{self, Write as _},
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::SystemTime,
};

use control_api::identity::oidc::Providers;
use transcoder::{ladder, trial::Trial};

use crate::{
    authorities,
    config::{self, Certificate, Config, Policy, Publish},
    limits,
    publish::Publishers,
    sockets::{self, Purpose, is_absent, try_bind},
    traces::Traces,
};

/// Prints the report to stdout. Fails if there is any fault.
pub(crate) fn run(file: Option<&Path>, config: Result<Config, config::Error>) -> ExitCode {
    let mut report = Report::default();
    let file = file.map_or_else(|| "built-in values".into(), |file| file.display().to_string());
    match &config {
        Ok(config) => {
            report.fine("configuration", &file);
            publishing(config, &mut report);
            watching(config, &mut report);
            signing_in(config, &mut report);
            bus(config, &mut report);
            match Traces::new(&config.traces) {
                Ok(None) => report.note("traces", "off: traces.url names no collector"),
                Ok(Some(_)) => report.fine("traces", "a collector is configured"),
                Err(err) => report.wrong("traces", &err.to_string()),
            }
            if has_address_of_origin(config) {
                report.note(
                    "http.public_url",
                    "not used for DASH manifests fetched from edge.origin: set it at the origin",
                );
            }
        }
        Err(err) => report.wrong("configuration", &err.to_string()),
    }
    // In a child process: a plugin that crashes costs a line of the report, not the report.
    match missing_elements() {
        Ok(missing) if missing.is_empty() => report.fine("GStreamer", "all elements are there"),
        Ok(missing) => {
            let packages = transcoder::elements::PACKAGES;
            report.wrong(
                "GStreamer",
                &format!("missing: {}; install {packages}", missing.join(", ")),
            );
        }
        Err(err) => report.wrong("GStreamer", &err.to_string()),
    }
    // All other checks need the configuration.
    if let Ok(config) = &config {
        encoders(config, &mut report);
        confinement(config, &mut report);
        certificate(config, &mut report);
        for finding in limits::findings(config) {
            match finding.short {
                true => report.note(finding.what, &finding.words),
                false => report.fine(finding.what, &finding.words),
            }
        }
        listeners(config, &mut report);
    }
    // Notes do not fail the check: they describe choices of the operator.
    match report.wrong {
        0 => ExitCode::SUCCESS,
        wrong => {
            eprintln!("streamforge: {wrong} of the above must be corrected");
            ExitCode::FAILURE
        }
    }
}

/// Checks that publishers and the administrator can authenticate.
fn publishing(config: &Config, report: &mut Report) {
    // The files of the policy are read as at the start, so that their faults are found here.
    let publishers = Publishers::new(&Publish::default());
    let prepared = publishers.and_then(|publishers| publishers.prepare(&config.publish));
    match (config.publish.policy, config.publish.keys.len(), prepared) {
        (_, _, Err(err)) => report.wrong("publishing", &err.to_string()),
        (Policy::Open, _, Ok(prepared)) => report.note("publishing", &prepared.describe()),
        (Policy::Keys, 0, Ok(_)) => {
            report.note(
                "publishing",
                "without keys every publisher is refused: add [[publish.keys]]",
            );
        }
        (_, _, Ok(prepared)) => report.fine("publishing", &prepared.describe()),
    }
    if config.api.administrator().is_none() {
        report.note(
            "administration",
            "no api.admin_token, so nothing can be changed through the API",
        );
    }
}

/// Checks that private channels can be watched.
fn watching(config: &Config, report: &mut Report) {
    let (private, keys) = (config.playback.private.len(), config.playback.keys.len());
    match (private, keys) {
        (0, 0) => {}
        (1.., 0) => report.note(
            "playback",
            "private channels, but no key of playback tokens, so nobody can watch them: add \
             [[playback.keys]]",
        ),
        (private, keys) => report.fine(
            "playback",
            &format!("{private} private channels listed, {keys} keys of playback tokens"),
        ),
    }
}

/// Checks that mails can be sent and that the providers of identities are usable, without a
/// connection to them.
fn signing_in(config: &Config, report: &mut Report) {
    if !config.platform.enabled {
        return;
    }
    match config.smtp.server() {
        Ok(None) => report.note("smtp", "no mail: forgotten passwords need an administrator"),
        Ok(Some(_)) if !config.http.public_url.is_set() => {
            report.wrong("smtp", "set http.public_url, to which the links in mails lead");
        }
        Ok(Some(_)) => report.fine("smtp", "mail is configured"),
        Err(err) => report.wrong("smtp", &err.to_string()),
    }
    if config.oidc.is_empty() {
        return;
    }
    let all = config.oidc.iter().map(|provider| provider.settings()).collect();
    match Providers::new(all, config.http.public_url.as_str().unwrap_or_default()) {
        Ok(_) => report.fine("oidc", "providers are configured"),
        Err(err) => report.wrong("oidc", &err.to_string()),
    }
}

/// Checks the credentials and the authorities of the bus, without a connection.
fn bus(config: &Config, report: &mut Report) {
    let bus = &config.bus;
    let Some(url) = &bus.url else { return };
    let file = &bus.credentials;
    if !file.as_os_str().is_empty()
        && let Err(err) = std::fs::read(file)
    {
        return report.wrong("bus", &format!("bus.credentials: {}: {err}", file.display()));
    }
    if url.is_encrypted()
        && let Err(err) = authorities::load(&bus.ca)
    {
        return report.wrong("bus", &format!("bus.ca: {err}"));
    }
    let servers = url.hosts().join(", ");
    if bus.is_exposed() {
        let words = "its password or token is sent without encryption: use tls://";
        return report.note("bus", &format!("{servers}; {words}"));
    }
    report.fine("bus", &format!("{servers}, stream {}", bus.stream));
}

/// Whether an edge has `http.public_url`, which has no effect on fetched manifests.
fn has_address_of_origin(config: &Config) -> bool {
    !config.edge.origin.is_empty() && config.http.public_url.is_set()
}

/// Checks the certificate.
fn certificate(config: &Config, report: &mut Report) {
    let files = match config.certificate() {
        None => {
            return report.note(
                "tls",
                "no certificate, so https and rtmps are off: set tls.cert and tls.key, or \
                 tls.self_signed = true for tests",
            );
        }
        Some(Certificate::Files(files)) => files,
        // Nothing is created by the check: it may run as another user.
        Some(Certificate::SelfSigned(data_dir)) => {
            return report.note(
                "tls",
                &format!(
                    "a self-signed certificate, kept in {}: browsers will warn",
                    data_dir.join("tls").display()
                ),
            );
        }
    };
    // The pair is parsed as at the start, so that a key that does not match is found here.
    match files.load() {
        Ok(loaded) => {
            let words = format!("{}: {}; the key matches", files.cert.display(), loaded.facts);
            match loaded.facts.is_soon_over(SystemTime::now()) {
                true => report.note("tls", &format!("{words}; renew it")),
                false => report.fine("tls", &words),
            }
        }
        Err(err) => report.wrong("tls", &err.to_string()),
    }
}

/// Checks that the ports are free.
fn listeners(config: &Config, report: &mut Report) {
    let all = config.listeners();
    for purpose in [
        Purpose::Rtmp,
        Purpose::Rtmps,
        Purpose::Http,
        Purpose::Https,
        Purpose::Quic,
        Purpose::Admin,
    ] {
        let wanted = all.iter().filter(|wanted| wanted.purpose == purpose);
        let tried: Vec<_> = wanted.map(|&wanted| (wanted, try_bind(wanted))).collect();
        if tried.is_empty() {
            report.note(purpose.name(), "off");
        }
        // As at the start, an address that this machine lacks is a fault only if the purpose has no
        // other.
        let all_absent = tried.iter().all(|(_, bound)| bound.as_ref().is_err_and(is_absent));
        for (wanted, bound) in tried {
            match bound {
                Ok(()) => report.fine(purpose.name(), &format!("{} is free", wanted.address)),
                Err(err) if is_absent(&err) && !all_absent => {
                    report.note(
                        purpose.name(),
                        &format!(
                            "{} is not available on this machine, skipped: {err}",
                            wanted.address
                        ),
                    );
                }
                Err(source) => {
                    let err = sockets::Error::Unbound { wanted, source };
                    report.wrong(purpose.name(), &err.to_string());
                }
            }
        }
    }
}

/// Tests the encoders of the ladder.
fn encoders(config: &Config, report: &mut Report) {
    if !config.ladder.encodes() {
        report.note("ladder", "off: only sources are served");
        return;
    }
    let settings = config.ladder.transcoder();
    // As at the start, the first encoder that works is used, so the rest need no trial.
    for encoder in settings.candidates() {
        let trial = ask(&[ladder::TRIAL_SUBCOMMAND, encoder.name(), &settings.preset])
            .and_then(|output| Ok(serde_json::from_slice::<Trial>(&output)?));
        match trial {
            Ok(trial) if trial.works => {
                let channels = settings.channels(encoder, trial.macroblocks_per_s);
                let room = match config.ladder.enabled {
                    true => format!(
                        "room for the rungs of some {channels:.1} channels of 1080p at 30 frames a \
                         second"
                    ),
                    false => "off, except for sources in which players cannot start".to_owned(),
                };
                let words = format!("{}; {room}", encoder.name());
                return report.fine("ladder", &words);
            }
            Ok(_) => {}
            Err(err) => {
                report.note("ladder", &format!("the trial of {} failed: {err}", encoder.name()))
            }
        }
    }
    // No candidate works. A named encoder can be replaced by another name; with "auto" packages are
    // missing.
    let words = match settings.encoder {
        Some(wanted) => format!(
            "ladder.encoder: {} does not work here; \"auto\" selects one that works",
            wanted.name()
        ),
        None => format!("no video encoder works; install {}", transcoder::elements::PACKAGES),
    };
    report.wrong("ladder", &words);
}

/// Tests the confinement of workers, which decode data from publishers. Missing features of the
/// kernel do not prevent the start.
fn confinement(config: &Config, report: &mut Report) {
    let settings = config.ladder.transcoder();
    let (memory_bytes, nice) = (settings.memory_bytes.to_string(), settings.nice.to_string());
    match ask(&["confinement-trial", &memory_bytes, &nice]) {
        Ok(words) => {
            let words = String::from_utf8_lossy(&words);
            // The first line describes the confinement; each further one is a warning.
            let mut lines = words.lines();
            report.fine("workers", lines.next().unwrap_or_default());
            lines.for_each(|warning| report.note("workers", warning));
        }
        Err(err) => report.wrong("workers", &format!("cannot be confined: {err}")),
    }
}

/// Why a child process has no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    /// The path of the program is unknown.
    #[error("this program's own path: {0}")]
    Path(#[source] io::Error),
    /// The process cannot be started.
    #[error("it cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The process failed; its last message.
    #[error("{status}; {message}")]
    Failed { status: ExitStatus, message: String },
    /// Its output is not the expected JSON.
    #[error(transparent)]
    Output(#[from] serde_json::Error),
}

/// Asks a child process, because GStreamer is initialised only there.
fn missing_elements() -> Result<Vec<String>, NoAnswer> {
    let output = ask(&["missing-elements"])?;
    Ok(String::from_utf8_lossy(&output).lines().map(str::to_owned).collect())
}

/// The output of this program with these arguments.
fn ask(args: &[&str]) -> Result<Vec<u8>, NoAnswer> {
    let program = env::current_exe().map_err(NoAnswer::Path)?;
    let output =
        Command::new(program).args(args).stdin(Stdio::null()).output().map_err(NoAnswer::Start)?;
    // Only the last line is shown: it is the error message of our `main`, after those of libraries.
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let message = words.lines().last().unwrap_or("no message").to_owned();
        return Err(NoAnswer::Failed { status: output.status, message });
    }
    Ok(output.stdout)
}

/// Prints a line of the report. A reader that closes the pipe early, such as `head`, is no fault:
/// the exit status still has the result.
fn print(verdict: &str, what: &str, words: &str) {
    let _ = writeln!(io::stdout(), "{verdict:<6} {what:<15} {words}");
}

/// The result so far. Lines are printed at once, because some checks take seconds.
#[derive(Debug, Default)]
struct Report {
    /// Number of faults.
    wrong: usize,
}

impl Report {
    /// A check that passed.
    fn fine(&self, what: &str, words: &str) {
        print("ok", what, words);
    }

    /// A fact that an operator should know. It does not fail the check.
    fn note(&self, what: &str, words: &str) {
        print("note", what, words);
    }

    /// A fault with its remedy, which fails the check.
    fn wrong(&mut self, what: &str, words: &str) {
        self.wrong += 1;
        print("WRONG", what, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_at_an_edge_is_detected() {
        let mut config = Config::default();
        config.http.public_url = "https://live.example".to_owned().try_into().expect("an address");
        assert!(!has_address_of_origin(&config));
        config.edge.origin = vec!["http://origin.example".parse().expect("an origin")];
        assert!(has_address_of_origin(&config));
        config.http.public_url = String::new().try_into().expect("none");
        assert!(!has_address_of_origin(&config));
    }
}

//! A table with a setting of every type.

use super::*;

setting_enum! {
    /// Two ways.
    enum Way { There = "THERE", Back = "BACK" }
}

settings! {
    /// A few settings of every type.
    struct Sample {
        /// Where it listens.
        listen_port: u16 = "listenPort" => 9876, local(), important();
        /// How often
        /// it looks.
        interval_ms: u64 = "interval" => 5_000, unit("ms"), range(10..=60_000), live();
        /// Whether it does.
        enabled: bool = "enabled" => true;
        /// Which way.
        way: Way = "way" => Way::There;
        /// Where to.
        path: Option<String> = "path" => None;
    }
    without_effect: "it is too early" => "later";
}

fn refused(file: &str, message: &str) {
    let mut sample = Sample::default();
    assert_eq!(sample.load("f", file.as_bytes()).unwrap_err().to_string(), message);
    assert_eq!(
        sample.text(),
        Sample::default().text(),
        "nothing is applied when something is refused"
    );
}

#[test]
fn a_file_sets_what_it_names_and_keeps_the_rest() {
    let mut sample = Sample::default();
    let warnings = sample.load("f", b"interval = 100 \nway=BACK\nenabled=FALSE\npath=/x\n");
    assert_eq!(warnings, Ok(vec![]));
    assert_eq!(
        sample.text(),
        "enabled=false\ninterval=100\nlistenPort=9876\npath=/x\nway=BACK\n"
    );
}

#[test]
fn bad_values_are_refused_with_place_and_reason() {
    refused(
        "enabled=true\n\ninterval=5s",
        "f:3: interval: \"5s\" is not a whole number",
    );
    refused("interval=", "f:1: interval: \"\" is not a whole number");
    refused("interval=9", "f:1: interval: 9 is not between 10 and 60000 ms");
    refused(
        "listenPort=65536",
        "f:1: listenPort: \"65536\" is not between 0 and 65535",
    );
    refused("enabled=yes", "f:1: enabled: \"yes\" is not true or false");
    refused("way=there", "f:1: way: \"there\" is not one of THERE, BACK");
}

#[test]
fn keys_without_effect_warn_once_and_stay_visible() {
    let mut sample = Sample::default();
    let warnings = sample.load("f", b"later=1\nlater=2\nnever=x\n").unwrap();
    let text: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "f:1: later has no effect: it is too early",
            "f:3: never is not a known setting"
        ]
    );
    assert!(sample.text().contains("later=2\n") && sample.text().contains("never=x\n"));
}

#[test]
fn changes_from_the_network_are_all_or_nothing_and_never_paths() {
    let mut sample = Sample::default();
    assert_eq!(
        sample.update(b"interval=20\nenabled=true\nunknown=1", ""),
        Ok(vec!["interval"])
    );
    assert_eq!(
        sample.update(b"interval=30\npath=/etc", ""),
        Err(UpdateError::NotRemote("path".into()))
    );
    assert!(matches!(
        sample.update(b"listenPort=1", ""),
        Err(UpdateError::NotRemote(_))
    ));
    assert!(matches!(
        sample.update(b"interval=30\nenabled=maybe", ""),
        Err(UpdateError::Bad(_))
    ));
    assert!(matches!(
        sample.update(b"interval=30", "a;interval"),
        Err(UpdateError::NotRemote(_))
    ));
    assert_eq!(sample.interval_ms, 20);
}

#[test]
fn a_saved_file_loads_to_the_same_settings() {
    let mut sample = Sample::default();
    sample.load("f", b"path=C:\\\\data \nlater=\\u00e9").unwrap();
    let mut again = Sample::default();
    again.load("g", sample.to_properties().as_bytes()).unwrap();
    assert_eq!(again.text(), sample.text());
    assert_eq!(again.path.as_deref(), Some("C:\\data"));
}

#[test]
fn the_documentation_has_a_row_per_setting() {
    let text = Sample::markdown();
    assert!(text.contains("| `interval` | long | `5000` | ms | 10 – 60000 | live | How often it looks. |\n"));
    assert!(text.contains("| `path` | String | – |  |  | in the file only | Where to. |\n"));
    assert!(text.contains("| it is too early | `later` |"));
    assert_eq!(Sample::default().important_text(), "listenPort=9876\n");
}

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// Percent-encodes all but letters and digits, as players do.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn of_query(query: &str) -> Option<Result<Cmcd<'static>, Malformed>> {
    let raw = Box::leak(Box::<Raw>::default());
    raw.copy(Some(query), &HeaderMap::new());
    raw.parse()
}

const SEGMENT: &str = "bl=5100,br=1254,bs,cid=\"show\",d=2000,dl=5100,mtp=25400,\
    nor=\"..%2F8.m4s\",ot=v,pr=1.25,rtp=15000,sf=h,sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\",\
    st=l,su,tb=3200,com.example-mine=7";

fn segment() -> Cmcd<'static> {
    Cmcd {
        bitrate_kbps: Some(1254),
        buffer_ms: Some(5100),
        starved: true,
        content: Some("show"),
        duration_ms: Some(2000),
        deadline_ms: Some(5100),
        throughput_kbps: Some(25_400),
        next: Some("..%2F8.m4s"),
        object: Some(Object::Video),
        rate_percent: Some(125),
        format: Some(Format::Hls),
        session: Some("6e2fb550-c457-11e9-bb97-0800200c9a66"),
        stream: Some(Stream::Live),
        startup: true,
        ..Cmcd::default()
    }
}

#[test]
fn a_report_in_the_query_has_all_its_values() {
    assert_eq!(Cmcd::parse(SEGMENT), Ok(segment()));
    let query = format!("a=b&CMCD={}&_HLS_msn=7", encoded(SEGMENT));
    assert_eq!(of_query(&query), Some(Ok(segment())));
    assert_eq!(of_query("a=CMCD&cmcd=br%3D1"), None);
    assert_eq!(of_query("CMCD="), Some(Ok(Cmcd::default())));
}

#[test]
fn a_report_in_header_fields_is_joined() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("cmcd-request", "bl=5100,dl=5100,mtp=25400,nor=\"..%2F8.m4s\",su"),
        ("cmcd-object", "br=1254,d=2000,ot=v,tb=3200"),
        ("cmcd-status", "bs,rtp=15000"),
        (
            "cmcd-session",
            "cid=\"show\", pr=1.25, sf=h, sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\", st=l",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut raw = Raw::default();
    raw.copy(Some("a=b"), &headers);
    assert_eq!(raw.parse(), Some(Ok(segment())));
    // The query takes precedence, and the copy is used again.
    raw.copy(Some("CMCD=br%3D7"), &headers);
    let expected = Cmcd { bitrate_kbps: Some(7), ..Cmcd::default() };
    assert_eq!(raw.parse(), Some(Ok(expected)));
    raw.copy(None, &HeaderMap::new());
    assert_eq!(raw.parse(), None);
}

#[test]
fn values_of_version_two_are_read_as_far_as_they_are_known() {
    let text = "v=2,ltc=1234,msd=560,bl=(4000;v 3900;a),br=(3000;v 128),st=ll,pr=1,\
                nor=(\"a)b\";r=\"0-\" \"c\"),ts=1700000000000";
    let expected = Cmcd {
        version: Some(2),
        latency_ms: Some(1234),
        start_delay_ms: Some(560),
        buffer_ms: Some(4000),
        bitrate_kbps: Some(3000),
        stream: Some(Stream::Live),
        rate_percent: Some(100),
        next: Some("a)b"),
        ..Cmcd::default()
    };
    assert_eq!(Cmcd::parse(text), Ok(expected));
}

#[test]
fn malformed_reports_have_no_values() {
    for (text, expected) in [
        ("br=", Malformed::Syntax),
        ("=1", Malformed::Syntax),
        (",br=1", Malformed::Syntax),
        ("br=1,", Malformed::Syntax),
        ("br=1,,bl=2", Malformed::Syntax),
        ("br=1 bl=2", Malformed::Syntax),
        ("sid=\"open", Malformed::Syntax),
        ("sid=\"a\"b", Malformed::Syntax),
        ("sid=\"a\\b\"", Malformed::Syntax),
        ("sid=\"\u{e9}\"", Malformed::Syntax),
        ("bl=(1", Malformed::Syntax),
        ("bl=((1))", Malformed::Syntax),
        ("br=-1", Malformed::Value),
        ("br=1e3", Malformed::Value),
        ("br=99999999999", Malformed::Value),
        ("br=4294967296", Malformed::Value),
        ("br=\"1\"", Malformed::Value),
        ("br", Malformed::Value),
        ("pr=42949673", Malformed::Value),
        ("bs=maybe", Malformed::Value),
        ("bl=()", Malformed::Value),
        ("sid=\"\"", Malformed::Value),
        ("sid=abc", Malformed::Value),
        ("ot=x", Malformed::Value),
        ("st=\"l\"", Malformed::Value),
    ] {
        assert_eq!(Cmcd::parse(text), Err(expected), "{text}");
        assert_eq!(of_query(&format!("CMCD={}", encoded(text))), Some(Err(expected)), "{text}");
    }
    for query in ["CMCD=%", "CMCD=%4", "CMCD=%zz", "CMCD=%ff%fe"] {
        assert_eq!(of_query(query), Some(Err(Malformed::Encoding)), "{query}");
    }
}

#[test]
fn an_identifier_has_at_most_64_bytes_and_a_report_at_most_64_pairs_and_768_bytes() {
    let long = |len| format!("sid=\"{}\"", "x".repeat(len));
    assert!(Cmcd::parse(&long(64)).is_ok());
    assert_eq!(Cmcd::parse(&long(65)), Err(Malformed::Value));
    let pairs = |count| vec!["x-y=1"; count].join(",");
    assert!(Cmcd::parse(&pairs(64)).is_ok());
    assert_eq!(Cmcd::parse(&pairs(65)), Err(Malformed::TooManyPairs));
    let query = |len| format!("CMCD={}", "x".repeat(len));
    assert_eq!(of_query(&query(768)), Some(Ok(Cmcd::default())));
    assert_eq!(of_query(&query(769)), Some(Err(Malformed::TooLong)));
    let mut headers = HeaderMap::new();
    let half = HeaderValue::try_from("x".repeat(400)).unwrap();
    headers.insert("cmcd-request", half.clone());
    headers.insert("cmcd-session", half);
    let mut raw = Raw::default();
    raw.copy(None, &headers);
    assert_eq!(raw.parse(), Some(Err(Malformed::TooLong)));
}

proptest! {
    #[test]
    fn arbitrary_reports_never_panic(
        text in "\\PC{0,100}", tail in "[a-z=,\"\\\\(); 0-9.%]{0,60}",
    ) {
        let _ = Cmcd::parse(&text);
        let _ = Cmcd::parse(&tail);
        let _ = of_query(&format!("CMCD={tail}"));
    }

    #[test]
    fn numbers_are_read_as_they_were_written(br: u32, bl: u32, mtp: u32) {
        let text = format!("br={br},bl={bl},mtp={mtp}");
        let report = Cmcd::parse(&text).unwrap();
        prop_assert_eq!(report.bitrate_kbps, Some(br));
        prop_assert_eq!(report.buffer_ms, Some(bl));
        prop_assert_eq!(report.throughput_kbps, Some(mtp));
    }
}

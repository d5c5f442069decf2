use std::{env, fs, path::PathBuf};

use control_domain::{
    Actor,
    features::{self, accounts, channels, reactions, videos},
};

use super::*;

/// A store in a folder that is deleted when dropped.
struct Site {
    folder: PathBuf,
    store: Store,
    hasher: Hasher,
}

impl Site {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("sf-seed-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let store = Store::open(&folder, features::ALL).expect("the folder can be written");
        Self { folder, store, hasher: Hasher::with(64, 1).expect("random numbers") }
    }

    async fn seed(&self, fixtures: &str) -> Result<Seeded, SeedError> {
        let fixtures = Fixtures::parse(fixtures.as_bytes()).expect("valid");
        seed(&self.store, &self.hasher, &fixtures).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conf/fixtures").join(name)
}

#[tokio::test]
async fn the_demonstration_is_made_once_and_its_events_have_their_own_times() {
    let site = Site::new("demo");
    let demo = fs::read_to_string(file("demo.json")).expect("the file");
    let made = site.seed(&demo).await.expect("valid fixtures");
    let counts = [
        ("categories", 1),
        ("channels", 5),
        ("follows", 12),
        ("people", 8),
        ("reactions", 17),
        ("stream_keys", 6),
        ("tags", 3),
        ("videos", 20),
    ];
    assert_eq!(made.made.iter().map(|(kind, n)| (*kind, *n)).collect::<Vec<_>>(), counts);
    assert_eq!((made.unchanged.len(), made.stream_keys.len()), (0, 1));
    let before = site.store.sequence();
    let again = site.seed(&demo).await.expect("valid fixtures");
    assert_eq!(again.result, "nothing has changed: all 72 things exist");
    assert_eq!((again.made.len(), again.sequence), (0, before));
    assert_eq!(site.store.sequence(), before, "no event");
    assert!(site.store.verify().expect("it can be read").faults.is_empty());

    let newest = site.store.read(|rows| {
        let page = videos::queries::newest(rows, &Actor::Anonymous, None, 100).expect("a page");
        let titles = page.items.iter().map(|entry| entry.video.details.title.to_string());
        let first = &page.items[0];
        let counts = reactions::queries::counts(rows, first.id).expect("counts");
        (titles.collect::<Vec<_>>(), first.video.state.published(), counts)
    });
    let (titles, published, counts) = newest.expect("it can be read");
    assert_eq!(titles.len(), 14, "public ones that are published: {titles:?}");
    assert_eq!(titles[0], "Market walk at five in the morning");
    let age = Time::from(SystemTime::now()).as_millis() - published.expect("a time").as_millis();
    assert!((4 * 86_400_000..4 * 86_400_000 + 600_000).contains(&age), "{age}");
    assert_eq!(counts.likes, 1);
}

#[tokio::test]
async fn faults_are_found_before_anything_is_made() {
    let site = Site::new("faults");
    let fixtures = r#"{
        "people": [
            { "name": "Ada", "email": "ada@b.org", "password": "password" },
            { "name": "ADA", "email": "ADA@b.org", "password": "quite-new-9", "registered": "+1d" }
        ],
        "channels": [
            { "name": "one", "owner": "Eve", "title": "One",
                "stream_keys": [{ "name": "k", "secret": "short" }] },
            { "name": "ONE", "owner": "Ada", "title": "Two" }
        ],
        "videos": [
            { "channel": "two", "title": "Title", "category": "Nothing", "published": "-1d" },
            { "channel": "one", "title": "Title", "visibility": "password" }
        ],
        "follows": [{ "person": "Bob", "channel": "three" }],
        "reactions": [{ "person": "Ada", "channel": "one", "video": "Tidle", "reaction": "like" }]
    }"#;
    let refused = site.seed(fixtures).await.expect_err("faults");
    let SeedError::Invalid(faults) = refused else { panic!("{refused}") };
    let pointers = faults.iter().map(|fault| &*fault.pointer).collect::<Vec<_>>();
    let expected = [
        "/people/1/name",
        "/people/1/email",
        "/channels/1/name",
        "/people/0/password",
        "/people/1/registered",
        "/channels/0/stream_keys/0/secret",
        "/videos/0/category",
        "/videos/0/published",
        "/videos/1/password",
        "/channels/0/owner",
        "/follows/0/person",
        "/videos/0/channel",
        "/follows/0/channel",
        "/reactions/0/video",
    ];
    assert_eq!(pointers, expected);
    let found = site.store.read(|rows| {
        let email = "ada@b.org".parse().expect("an address");
        accounts::queries::by_email(rows, site.store.vault(), &email).expect("it can be read")
    });
    assert_eq!(found.expect("it can be read"), None);
}

#[tokio::test]
async fn a_refused_thing_is_not_half_made_and_a_mended_file_goes_on() {
    let site = Site::new("refused");
    let fixtures = |reaction: &str| {
        format!(
            r#"{{
                "people": [{{ "name": "Ada", "email": "ada@b.org", "password": "quite-new-9",
                    "role": "creator", "about": "Her." }}],
                "channels": [{{ "name": "one", "owner": "ada", "title": "One" }}],
                "videos": [{{ "channel": "one", "title": "A draft" }}],
                "reactions": [{reaction}]
            }}"#
        )
    };
    let reaction =
        r#"{ "person": "Ada", "channel": "One", "video": "a draft", "reaction": "like" }"#;
    let refused = site.seed(&fixtures(reaction)).await.expect_err("it is not published");
    let words = refused.to_string();
    assert!(words.starts_with("/reactions/0: the video is not published; 3 things"), "{words}");
    let again = site.seed(&fixtures("")).await.expect("valid fixtures");
    assert_eq!(again.result, "nothing has changed: all 3 things exist");
    // Somebody else has the name: the account is not there, also not without its description.
    let other = r#"{ "people": [{ "name": "ADA", "email": "other@b.org",
        "password": "quite-new-9", "about": "Him." }] }"#;
    let words = site.seed(other).await.expect_err("the name is taken").to_string();
    assert!(words.starts_with("/people/0: another account has this name"), "{words}");
    let (about, channel) = site
        .store
        .read(|rows| {
            let name = "Ada".parse().expect("a name");
            let vault = site.store.vault();
            let id = accounts::queries::by_name(rows, vault, &name).expect("it can be read");
            let account = accounts::queries::present(rows, id.expect("Ada")).expect("Ada");
            let person = account.open(vault).expect("it can be read").expect("not erased");
            let name = "one".parse().expect("a name");
            (person.about, channels::queries::by_name(rows, &name).expect("it can be read"))
        })
        .expect("it can be read");
    assert_eq!(about, "Her.");
    assert!(channel.is_some());
}

#[test]
fn the_schema_of_fixtures_is_the_published_one() {
    let mut schema = schemars::schema_for!(Fixtures);
    schema.insert("title".into(), "Fixtures of streamforge".into());
    let mut text = serde_json::to_string_pretty(&schema).expect("JSON");
    text.push('\n');
    let path = file("fixtures.schema.json");
    if env::var_os("STREAMFORGE_WRITE_SCHEMAS").is_some() {
        fs::write(&path, &text).expect("the file can be written");
    }
    let published = fs::read_to_string(&path).expect("the file");
    assert_eq!(published, text, "run the test with STREAMFORGE_WRITE_SCHEMAS=1");
}

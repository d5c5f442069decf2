//! How the index is kept: changes, restarts, crashes, damage, a full disk.

use super::*;

fn visibility(visibility: Visibility) -> Edits {
    Edits { visibility: Some(visibility), ..Edits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_hidden_and_deleted_things_are_followed() {
    let site = Site::new("changes").await;
    let channel = site.channel("garden", "Garden").await;
    let rose = site.titled(channel, "Roses in June").await;
    let video = [Thing::Video(rose)];
    assert_eq!(site.find("roses").await, video);
    let title = Some("Tulips in April".parse().expect("a title"));
    site.edit(rose, Edits { title, ..Edits::default() }).await;
    assert_eq!(site.find("roses").await, []);
    assert_eq!(site.find("tulips").await, video);
    site.send(Unpublish { video: rose }).await;
    assert_eq!(site.find("tulips").await, []);
    site.send(Publish { video: rose, at: None }).await;
    assert_eq!(site.find("tulips").await, video);
    for hidden in [Visibility::Unlisted, Visibility::Private, Visibility::Members] {
        site.edit(rose, visibility(hidden)).await;
        assert_eq!(site.find("tulips").await, [], "{hidden:?}");
    }
    site.edit(rose, visibility(Visibility::Public)).await;
    assert_eq!(site.find("tulips").await, video);

    // A channel's name and visibility are those of its videos.
    let edit = |edits| channels::commands::Edit { channel, edits };
    let title = Some("Orchard".parse().expect("a title"));
    let named = channels::events::Edits { title, ..channels::events::Edits::default() };
    site.send(edit(named)).await;
    assert_eq!(site.find("orchard").await, [Thing::Channel(channel), Thing::Video(rose)]);
    let visibility = Some(channels::events::Visibility::Private);
    let hidden = channels::events::Edits { visibility, ..channels::events::Edits::default() };
    site.send(edit(hidden)).await;
    assert_eq!(site.find("orchard").await, []);
    assert_eq!(site.find("tulips").await, []);
    let visibility = Some(channels::events::Visibility::Public);
    let shown = channels::events::Edits { visibility, ..channels::events::Edits::default() };
    site.send(edit(shown)).await;
    let other = site.titled(channel, "Tulips in May").await;
    assert_eq!(site.find("tulips").await.len(), 2);
    site.send(Delete { video: other }).await;
    assert_eq!(site.find("tulips").await, video);
    site.send(channels::commands::Delete { channel }).await;
    assert_eq!(site.find("tulips").await, []);
    assert_eq!(site.search.documents(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_only_what_is_missing_is_read_again() {
    let mut site = Site::new("restart").await;
    let channel = site.channel("stones", "Stones").await;
    let first = site.titled(channel, "Granite").await;
    site.settled().await;
    // The search is stopped before the event: as a crash between the event and the index.
    site.stop().await;
    let second = site.titled(channel, "Basalt").await;
    site.restart(|_| ()).await;
    assert_eq!(site.find("basalt").await, [Thing::Video(second)]);
    assert_eq!(site.find("granite").await, [Thing::Video(first)]);
    let store = site.platform.store().await.expect("it is open");
    let end = store.sequence();
    assert_eq!(*site.search.0.seen.borrow(), end);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_not_committed_are_read_again_after_a_crash() {
    let mut site = Site::new("crash").await;
    let channel = site.channel("stones", "Stones").await;
    site.titled(channel, "Granite").await;
    site.settled().await;
    site.stop().await;
    let basalt = site.titled(channel, "Basalt").await;
    let before = {
        let store = site.platform.store().await.expect("it is open");
        let open = || Files::open(&site.folder, &index::real_disk, &store).expect("it is sound");
        let (files, progress) = open();
        // Written, but never committed.
        let thing = Thing::Video(basalt);
        let entry = store.read(|rows| entry::Entry::read(rows, thing)).expect("tables");
        files.set(thing, entry.expect("tables")).expect("it can be written");
        drop(files);
        let (_, after) = open();
        assert_eq!(after, progress);
        progress
    };
    assert!(before.sequence > 0 && before.copied.is_none(), "{before:?}");
    site.restart(|_| ()).await;
    assert_eq!(site.find("basalt").await, [Thing::Video(basalt)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_outdated_or_of_another_log_is_built_again() {
    let mut site = Site::new("rebuilt").await;
    let channel = site.channel("birds", "Birds").await;
    for n in 0..40 {
        site.titled(channel, &format!("Robin {n}")).await;
    }
    let hidden = site.announce(channel, details("Wren", "", &[])).await;
    assert_eq!(site.find("robin").await.len(), 40);
    site.restart(|folder| fs::remove_dir_all(folder.join("search")).expect("it is there")).await;
    assert_eq!(site.find("robin").await.len(), 40);
    assert_eq!(site.search.documents(), Some(42), "with the channel and the draft");

    let change = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |folder: &Path| {
            let path = folder.join("search/meta.json");
            let text = fs::read_to_string(&path).expect("it is there");
            assert!(text.contains(&from), "{text}");
            fs::write(&path, text.replace(&from, &to)).expect("it can be written");
        }
    };
    // The payload is text within JSON.
    site.restart(change("\\\"version\\\":1,", "\\\"version\\\":0,")).await;
    assert_eq!(site.find("robin").await.len(), 40);
    let store = site.platform.store().await.expect("it is open");
    let last = store.events(store.sequence() - 1, 1).expect("the log")[0].1.id.to_string();
    drop(store);
    site.restart(change(&last, &uuid::Uuid::max().to_string())).await;
    assert_eq!(site.find("robin").await.len(), 40);
    let sequence = site.platform.store().await.expect("it is open").sequence();
    let number = format!("\\\"sequence\\\":{sequence},");
    site.restart(change(&number, "\\\"sequence\\\":99999999,")).await;
    assert_eq!(site.find("robin").await.len(), 40);
    site.send(Delete { video: hidden }).await;
    site.settled().await;
    assert_eq!(site.search.documents(), Some(41));
    assert!(!site.folder.join("search.damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_moved_away_and_built_again_whichever_file_it_is() {
    let mut site = Site::new("damaged").await;
    let channel = site.channel("birds", "Birds").await;
    for n in 0..20 {
        site.titled(channel, &format!("Robin {n}")).await;
    }
    assert_eq!(site.find("robin").await.len(), 20);
    let files = |folder: &Path| {
        let files = fs::read_dir(folder.join("search")).expect("it is there");
        let files = files.map(|file| file.expect("a file").path());
        let mut files = files.filter(|file| {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            // Locks are empty, and the list of files may be missing.
            !name.ends_with(".lock") && fs::metadata(file).expect("a file").len() > 0
        });
        let mut list = files.by_ref().collect::<Vec<_>>();
        list.sort();
        list
    };
    let kinds = files(&site.folder).len();
    assert!(kinds >= 6, "{kinds}");
    for index in 0..kinds {
        for cut in [false, true] {
            let damage = |folder: &Path| {
                let list = files(folder);
                let Some(file) = list.get(index) else { return };
                let mut bytes = fs::read(file).expect("a file");
                match cut {
                    true => bytes.truncate(bytes.len() / 2),
                    false => bytes.iter_mut().for_each(|byte| *byte ^= 0x55),
                }
                fs::write(file, bytes).expect("it can be written");
            };
            site.restart(damage).await;
            assert_eq!(site.find("robin").await.len(), 20, "file {index}, cut: {cut}");
        }
    }
    assert!(site.folder.join("search.damaged/meta.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_searches_are_refused_and_afterwards_they_know_everything() {
    let (is_full, refusals) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (full, refused) = (Arc::clone(&is_full), Arc::clone(&refusals));
    let disk = move |folder: &Path| -> Result<Box<dyn Directory>, _> {
        let inner = MmapDirectory::open(folder)?;
        let (is_full, refusals) = (Arc::clone(&full), Arc::clone(&refused));
        Ok(Box::new(FullDisk { inner, is_full, refusals }))
    };
    let site = Site::on("full", Box::new(disk)).await;
    let channel = site.channel("fish", "Fish").await;
    let trout = site.titled(channel, "Trout").await;
    assert_eq!(site.find("trout").await, [Thing::Video(trout)]);
    let health = SearchHealth(site.search.clone());
    let finding = || crate::health::Check::check(&health);
    assert_eq!(finding(), crate::health::Finding::Ok);

    is_full.store(true, Ordering::SeqCst);
    let salmon = site.titled(channel, "Salmon").await;
    let mut states = site.search.0.state.subscribe();
    let failing = states.wait_for(|state| matches!(state, State::Failing(_)));
    timeout(Duration::from_secs(60), failing).await.expect("in time").expect("it lives");
    let refused = site.hits(wanted("trout")).await.expect_err("it cannot be kept");
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(site.search.0.metrics.with(QueryResult::Unavailable) >= 1);
    assert!(matches!(finding(), crate::health::Finding::Degraded(_)), "{:?}", finding());
    // It is tried again, in vain.
    let before = refusals.load(Ordering::SeqCst);
    while refusals.load(Ordering::SeqCst) == before {
        sleep(Duration::from_millis(20)).await;
    }
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(site.find("salmon").await, [Thing::Video(salmon)]);
    assert_eq!(site.find("trout").await, [Thing::Video(trout)]);
    assert_eq!(finding(), crate::health::Finding::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_like_that_doubles_nothing_does_not_write_the_index() {
    let site = Site::new("likes").await;
    let channel = site.channel("fish", "Fish").await;
    let video = site.titled(channel, "Trout").await;
    let like = async |n: u32| {
        let id = site.account(&format!("viewer{n}"), Role::Viewer).await;
        let person = Actor::Person { id, role: Role::Viewer };
        let react = React { video, reaction: Reaction::Like };
        site.platform.send(person, react).await.expect("a viewer may");
        site.settled().await;
    };
    // Segments may be merged meanwhile, which does not change the payload.
    let meta = || {
        let text = fs::read_to_string(site.folder.join("search/meta.json")).expect("it is there");
        let meta: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        meta["payload"].as_str().expect("a commit of ours").to_owned()
    };
    like(1).await;
    let first = meta();
    like(2).await;
    let second = meta();
    assert_ne!(first, second);
    like(3).await;
    assert_eq!(second, meta(), "two and three are between the same doublings");
    like(4).await;
    assert_ne!(second, meta());
}

//! Which words find which things, and in which order.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_video_is_found_by_its_title_description_tags_and_channel_despite_typing_errors() {
    let site = Site::new("fields").await;
    let channel = site.channel("blender-open", "Blender Foundation").await;
    let video = site
        .publish(
            channel,
            details("Big Buck Bunny", "A giant rabbit meets three rodents.", &["animation"]),
        )
        .await;
    let other = site.titled(channel, "Sintel").await;
    let (video, other) = (Thing::Video(video), Thing::Video(other));
    for text in [
        "bunny",
        "BUNNY",
        "bunni",
        "bnuny",
        "big buck",
        "bun",
        "rodents",
        "rodnets",
        "giant rabbit",
        "animation",
        "anmiation",
        "animatoin",
        "big-buck-bunny!",
        "bigbuck bunny",
        "big buckbunny",
    ] {
        let found = site.find(text).await;
        assert_eq!(found.first(), Some(&video), "{text}");
        assert!(!found.contains(&other), "{text}");
    }
    for text in ["blender", "fundation", "blendr foundation", "blenderopen", "blender-open"] {
        let found = site.find(text).await;
        assert_eq!(found.first(), Some(&Thing::Channel(channel)), "the channel itself: {text}");
        assert!(found.contains(&video) && found.contains(&other), "{text}");
    }
    // Short words and numbers have no typing errors, and longer ones a few.
    for text in ["bag", "bnu", "xunnx", "animahgjkn", "rabit hole elsewhere sky"] {
        assert_eq!(site.find(text).await, [], "{text}");
    }
    assert_eq!(site.find("sintl").await, [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_case_and_scripts_without_spaces_are_searched() {
    let site = Site::new("scripts").await;
    let channel = site.channel("world", "World").await;
    for title in [
        "Le Café de Ñandú",
        "東京タワーの夜景",
        "猫と犬",
        "한국어 강의",
        "สวัสดีชาวโลก",
        "Приключения Ёжика",
        "हिन्दी गाने",
        "Straßenmusik in Łódź",
        "año 2024",
    ] {
        site.titled(channel, title).await;
    }
    for (text, title) in [
        ("cafe", "Le Café de Ñandú"),
        ("CAFÉ nandu", "Le Café de Ñandú"),
        ("東京", "東京タワーの夜景"),
        ("タワー", "東京タワーの夜景"),
        ("夜", "東京タワーの夜景"),
        ("景", "東京タワーの夜景"),
        ("猫", "猫と犬"),
        ("犬", "猫と犬"),
        ("한국", "한국어 강의"),
        ("강의", "한국어 강의"),
        ("ชาวโลก", "สวัสดีชาวโลก"),
        ("ежика", "Приключения Ёжика"),
        ("преключения", "Приключения Ёжика"),
        ("हिन्दी", "हिन्दी गाने"),
        ("strassenmusik", "Straßenmusik in Łódź"),
        ("lodz", "Straßenmusik in Łódź"),
        ("ano 2024", "año 2024"),
    ] {
        assert_eq!(site.titles(text).await.first().map(String::as_str), Some(title), "{text}");
    }
    assert_eq!(site.titles("2023").await, [] as [&str; 0], "numbers that differ are others");
    assert_eq!(site.titles("京都").await, [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn better_places_and_better_fits_come_first_and_all_words_before_some() {
    let site = Site::new("ranking").await;
    let channel = site.channel("cooking", "Cooking").await;
    site.publish(channel, details("Kitchen talk", "We speak of bread and of sourdough.", &[]))
        .await;
    site.publish(channel, details("Evening show", "", &["sourdough"])).await;
    site.titled(channel, "Sourdoughs of the world").await;
    site.titled(channel, "Sourdough for beginners").await;
    site.titled(channel, "Sourdough").await;
    site.titled(channel, "Sourdouhg mishaps").await;
    assert_eq!(
        site.titles("sourdough ").await,
        [
            "Sourdough",
            "Sourdough for beginners",
            "Sourdoughs of the world",
            "Evening show",
            "Sourdouhg mishaps",
            "Kitchen talk",
        ]
    );
    // Half of the words is enough, but all are better, wherever they stand.
    let titles = site.titles("sourdough bread ").await;
    assert_eq!(titles[0], "Kitchen talk");
    assert_eq!(titles.len(), 6);
    assert_eq!(titles[1], "Sourdough", "{titles:?}");

    // In their order, and without others.
    for title in ["The lake of the swans", "Swan Lake", "Swan Lake in full", "Lake Swan"] {
        site.titled(channel, title).await;
    }
    let titles = site.titles("swan lake").await;
    assert_eq!(titles[..2], ["Swan Lake", "Swan Lake in full"], "{titles:?}");
    assert_eq!(titles[2], "Lake Swan");
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_words_count_more_and_a_popular_video_comes_before_one_like_it() {
    let site = Site::new("rarity").await;
    let channel = site.channel("films", "Films").await;
    for n in 0..30 {
        site.titled(channel, &format!("Trailer number {n}")).await;
    }
    let rare = site.titled(channel, "Interview about zithers").await;
    let found = site.find("trailer zithers ").await;
    assert_eq!(found[0], Thing::Video(rare), "one of two words, as the others, but a rare one");

    let first = site.titled(channel, "Documentary").await;
    let second = site.titled(channel, "Documentary").await;
    let found = site.find("documentary ").await;
    assert_eq!(found, [Thing::Video(second), Thing::Video(first)], "the newer one of equals");
    for n in 0..4 {
        let id = site.account(&format!("viewer{n}"), Role::Viewer).await;
        let react = React { video: first, reaction: Reaction::Like };
        let person = Actor::Person { id, role: Role::Viewer };
        site.platform.send(person, react).await.expect("a viewer may");
    }
    let found = site.find("documentary ").await;
    assert_eq!(found, [Thing::Video(first), Thing::Video(second)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_videos_of_a_merged_tag_are_found_by_the_tag_that_it_means() {
    let site = Site::new("merged").await;
    let channel = site.channel("screen", "Screen").await;
    let shown = site.publish(channel, details("First", "", &["flicks"])).await;
    let draft = site.announce(channel, details("Second", "", &["Flicks"])).await;
    assert_eq!(site.find("cinema").await, []);
    let merge = |tag: &str, into: &str| tags::Merge {
        tag: tag.parse().expect("a tag"),
        into: into.parse().expect("a tag"),
    };
    site.send(merge("flicks", "cinema")).await;
    assert_eq!(site.find("cinema").await, [Thing::Video(shown)]);
    assert_eq!(site.find("flicks").await, [Thing::Video(shown)], "and by its own");
    let mut all = wanted("cinema");
    all.filters = Filters::default();
    let found = site.hits(all).await.expect("it is answered");
    let found = found.places.iter().map(|place| place.rank.thing()).collect::<Vec<_>>();
    assert_eq!(found.len(), 2, "drafts, too");
    assert!(found.contains(&Thing::Video(draft)));
    site.send(tags::Separate { tag: "flicks".parse().expect("a tag") }).await;
    assert_eq!(site.find("cinema").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_relevance_and_by_time_have_each_hit_once_while_others_are_added() {
    let site = Site::new("pages").await;
    let channel = site.channel("news", "News").await;
    let mut published = Vec::new();
    for n in 0..25 {
        published.push(Thing::Video(site.titled(channel, &format!("Report {}", n % 3)).await));
    }
    site.settled().await;
    for sort in [Sort::Relevance, Sort::New] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = Wanted { sort, after, limit: 4, ..wanted("report") };
            let page = site.hits(page).await.expect("it is answered");
            found.extend(page.places.iter().map(|place| place.rank.thing()));
            let Some(last) = page.places.last().cloned() else { break };
            after = Some(last);
            // Others change the rarity of the word, but not the ranks of the pages.
            site.titled(channel, "Something else").await;
            site.titled(channel, "Something else again").await;
            site.settled().await;
        }
        let mut expected = published.clone();
        if sort == Sort::New {
            expected.reverse();
            assert_eq!(found, expected);
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{sort:?}");
    }
}

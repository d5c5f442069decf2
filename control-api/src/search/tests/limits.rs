//! What a query may cost at most.

use super::{asked::MAX_WORDS, spellings::MAX_USED, *};

/// A site whose dictionary has many words that are alike.
async fn crowded(name: &str) -> Site {
    let site = Site::new(name).await;
    let channel = site.channel("crowd", "Crowd").await;
    // Numbers of a simple generator: the same each time.
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + state.to_be_bytes()[0] % 4)
    };
    for n in 0..12 {
        let words = (0..900).map(|_| (0..9).map(|_| letter()).collect::<String>());
        let text = words.collect::<Vec<_>>().join(" ");
        site.publish(channel, details(&format!("Video {n}"), &text, &[])).await;
    }
    site.settled().await;
    site
}

fn spelled(site: &Site, text: &str) -> spellings::Spelled {
    let view = match &*site.search.0.state.borrow() {
        State::Open(view) => view.clone(),
        _ => panic!("it is open"),
    };
    let asked = Asked::parse(text);
    spellings::find(&view.searcher(), view.fields.words, &asked).expect("the index")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_query_takes_a_bounded_number_of_steps_spellings_and_words() {
    let site = crowded("hostile").await;
    let alike = (0..40).map(|n| format!("{:a<9}", "abcd".repeat(2).split_at(n % 8).0));
    let queries = [
        alike.collect::<Vec<_>>().join(" "),
        "a".to_owned(),
        "abcdabcda ".repeat(30),
        "aaaaaaaaa bbbbbbbbb ccccccccc ddddddddd abababab cdcdcdcd abcabcab ".repeat(5),
        "*".repeat(10_000),
        "\u{301}".repeat(10_000),
        "東".repeat(10_000),
        "x".repeat(1 << 20),
    ];
    for text in queries {
        let shown = text.chars().take(40).collect::<String>();
        let spelled = spelled(&site, &text);
        assert!(spelled.words.len() <= MAX_WORDS, "{shown}");
        assert!(spelled.steps <= spellings::MAX_STEPS, "{shown}: {} steps", spelled.steps);
        for word in &spelled.words {
            let others = word.spellings.iter().filter(|it| it.fit != spellings::fit::SAME);
            assert!(others.count() <= MAX_USED, "{shown}");
        }
        site.hits(wanted(&text)).await.expect("every text is a query");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_all_words_together_are_bounded_and_exact_words_are_found_nevertheless() {
    let site = crowded("steps").await;
    let view = match &*site.search.0.state.borrow() {
        State::Open(view) => view.clone(),
        _ => panic!("it is open"),
    };
    let asked = Asked::parse("aaaabbbbc aaaabbbbd aaaacccc crowd ");
    let find = |limit| {
        let searcher = view.searcher();
        spellings::find_within(&searcher, view.fields.words, &asked, limit).expect("the index")
    };
    let free = find(spellings::MAX_STEPS);
    assert!((100..spellings::MAX_STEPS).contains(&free.steps), "{}", free.steps);
    let count = |spelled: &spellings::Spelled| {
        spelled.words.iter().map(|word| word.spellings.len()).sum::<usize>()
    };
    let bound = find(50);
    assert_eq!(bound.steps, 50);
    assert!(count(&bound) < count(&free), "{} {}", count(&bound), count(&free));
    assert_eq!(bound.words[3].spellings[0].text, "crowd");
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_at_the_same_time_are_bounded_and_the_others_are_told_to_repeat() {
    let site = crowded("busy").await;
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (search, gate) = (site.search.clone(), Arc::clone(&gate));
        held.spawn(async move {
            let wait = move |_: &Reading<'_>| {
                let (open, opened) = &*gate;
                let open = open.lock().expect("no panic");
                drop(opened.wait_while(open, |open| !*open).expect("no panic"));
                Ok(())
            };
            search.ask(wait).await
        });
    }
    while site.search.0.permits.available_permits() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let refused = site.hits(wanted("crowd")).await.expect_err("all threads are busy");
    assert_eq!(refused.kind(), Kind::Unavailable);
    *gate.0.lock().expect("no panic") = true;
    gate.1.notify_all();
    while let Some(ended) = held.join_next().await {
        ended.expect("no panic").expect("it is answered");
    }
    site.hits(wanted("crowd")).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_panics_is_a_problem_and_searches_are_answered_again() {
    let site = crowded("panic").await;
    let panics = site.search.ask(|_| -> Result<(), NoAnswer> { panic!("on purpose") }).await;
    assert_eq!(panics.expect_err("it panicked").kind(), Kind::Internal);
    // The index may be the cause, so that it is opened again.
    let found = async {
        while site.hits(wanted("video 3")).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("searches are answered");
}

use super::{
    commands::{ChangeAvatar, ChangeBanner, ChangeChannelAvatar},
    events::{AvatarChanged, Event, NoHash, PictureHash},
    queries,
};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    command::Refusal,
    features::channels::{commands::Delete, events::Visibility},
    id::{AccountId, ChannelId},
    scenario::Scenario,
};

fn picture(number: u8) -> PictureHash {
    PictureHash([number; 32])
}

fn avatar(person: Actor, avatar: Option<PictureHash>) -> ChangeAvatar {
    ChangeAvatar { account: person.account().expect("a person"), avatar }
}

fn held(scenario: &Scenario, numbers: &[u8]) -> Vec<bool> {
    let holds = |number: &u8| queries::holds(&scenario.rows, picture(*number)).expect("memory");
    numbers.iter().map(holds).collect()
}

#[test]
fn an_avatar_is_changed_and_removed_by_its_owner_and_moderators() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Viewer);
    let eve = scenario.person("eve", Role::Viewer);
    let mo = scenario.person("mo", Role::Moderator);
    scenario.take_events::<Event>();
    let account = ada.account().expect("a person");

    scenario.send(ada, &avatar(ada, Some(picture(1)))).expect("her own");
    scenario.send(ada, &avatar(ada, Some(picture(1)))).expect("again");
    let changed = AvatarChanged { account, avatar: Some(picture(1)) };
    assert_eq!(scenario.log.len(), 1);
    assert_eq!(
        (queries::audience)(&scenario.rows, &scenario.log[0]).expect("memory"),
        Audience::Anyone
    );
    assert_eq!(scenario.take_events::<Event>(), [Event::AvatarChanged(changed)]);
    assert_eq!(queries::avatar(&scenario.rows, account).expect("memory"), Some(picture(1)));

    let refused = scenario.send(eve, &avatar(ada, None)).expect_err("a stranger");
    assert!(matches!(refused, Refusal::Forbidden { .. }), "{refused}");
    scenario.send(ada, &avatar(ada, Some(picture(2)))).expect("her own");
    assert_eq!(held(&scenario, &[1, 2]), [false, true]);
    scenario.send(mo, &avatar(ada, None)).expect("a moderator");
    assert_eq!(queries::avatar(&scenario.rows, account).expect("memory"), None);
    assert_eq!(held(&scenario, &[1, 2]), [false, false]);
}

#[test]
fn pictures_go_with_their_account_and_their_channel() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let show = scenario.channel(ada, "show", Visibility::Public);
    let other = scenario.channel(ada, "other", Visibility::Private);
    scenario.send(ada, &avatar(ada, Some(picture(1)))).expect("her own");
    for (channel, number) in [(show, 2), (other, 4)] {
        let avatar = Some(picture(number));
        scenario.send(ada, &ChangeChannelAvatar { channel, avatar }).expect("her own");
        let banner = Some(picture(number + 1));
        scenario.send(ada, &ChangeBanner { channel, banner }).expect("her own");
    }
    assert_eq!(held(&scenario, &[1, 2, 3, 4, 5]), [true; 5]);
    let audiences = scenario.log.iter().filter(|event| event.kind.contains("channel.banner"));
    let audiences =
        audiences.map(|event| queries::audience(&scenario.rows, event).expect("memory"));
    let owner = ada.account().expect("a person");
    assert_eq!(
        audiences.collect::<Vec<_>>(),
        [Audience::Anyone, Audience::OwnerAndModerators(owner)]
    );
    scenario.send(ada, &Delete { channel: show }).expect("her own");
    assert_eq!(held(&scenario, &[1, 2, 3, 4, 5]), [true, false, false, true, true]);
    assert_eq!(queries::banner(&scenario.rows, show).expect("memory"), None);
    scenario.erase(ada);
    assert_eq!(held(&scenario, &[1]), [false]);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn nobody_learns_of_a_private_channel_by_its_pictures() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let eve = scenario.person("eve", Role::Creator);
    let channel = scenario.channel(ada, "show", Visibility::Private);
    let of = |channel| ChangeChannelAvatar { channel, avatar: Some(picture(1)) };
    let hidden = scenario.send(eve, &of(channel)).expect_err("a stranger").to_string();
    let missing = of(ChannelId::new(uuid::Uuid::from_u128(9)));
    assert_eq!(hidden, scenario.send(eve, &missing).expect_err("none").to_string());
    let nobody = AccountId::new(uuid::Uuid::from_u128(9));
    let refused = scenario.send(Actor::System, &ChangeAvatar { account: nobody, avatar: None });
    assert!(matches!(refused, Err(Refusal::NotFound { .. })));
}

#[test]
fn the_name_of_a_picture_is_64_digits_in_lower_case() {
    let text = "0123456789abcdef".repeat(4);
    let hash: PictureHash = text.parse().expect("a hash");
    assert_eq!(hash.to_string(), text);
    for refused in ["", &text[1..], &text.to_uppercase(), &"+1".repeat(32), &"é".repeat(32)] {
        assert_eq!(refused.parse::<PictureHash>(), Err(NoHash), "{refused}");
    }
}

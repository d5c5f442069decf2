//! Units of the source that are lost or broken.

use super::*;

pub(crate) fn a_lost_unit_costs_no_other_picture() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let mut source = recipe.source(0);
        source.units.remove(10);
        source.units.remove(50);
        let said = made(
            job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]),
            marked(&source),
        );
        for rendition in 0..2 {
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

pub(crate) fn a_lost_key_frame_moves_its_mark_to_the_next_picture() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let mut source = recipe.source(0);
        let first = source.units[0].pts;
        let second = source.units.iter().position(|unit| unit.key && unit.pts > first).unwrap();
        let mark = source.units.remove(second).pts;
        // The first unit shown after the mark has it.
        let mut told = false;
        let orders = source.units.iter().map(|unit| {
            let lost = !told && unit.pts >= mark;
            told |= lost;
            unit.order(if lost { Some(mark) } else { unit.key.then_some(unit.pts) })
        });
        let said = made(
            job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]),
            orders.collect(),
        );
        // Pictures that refer to it may be missing; the renditions must agree about that.
        let units =
            [said.units(0), said.units(1)].map(|units| shown(units.iter().map(|unit| unit.pts)));
        assert_eq!(units[0], units[1]);
        let third = mark + 90_000;
        let of_group =
            |times: &[i64]| times.iter().filter(|&&pts| (mark..third).contains(&pts)).count();
        let whole = shown(source.units.iter().map(|unit| unit.pts));
        assert_eq!(units[0].len() - of_group(&units[0]), whole.len() - of_group(&whole));
        let after = *units[0].iter().find(|&&pts| pts >= mark).unwrap();
        for rendition in 0..2 {
            key_frames_at(&said, rendition, &[first, after, third]);
        }
    }
}

pub(crate) fn broken_units_cost_at_most_their_own_pictures() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let source = recipe.source(0);
        let mut orders = marked(&source);
        for number in [20, 35] {
            let Order::Unit { payload, .. } = &mut orders[number] else {
                continue;
            };
            let mut bytes = payload.to_vec();
            let from = bytes.len() / 2;
            bytes[from..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            *payload = bytes.into();
        }
        let said = made(job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]), orders);
        let units =
            [said.units(0), said.units(1)].map(|units| shown(units.iter().map(|unit| unit.pts)));
        assert_eq!(units[0], units[1]);
        assert!(
            units[0].len() + 2 >= source.units.len(),
            "{} of {}",
            units[0].len(),
            source.units.len()
        );
        for rendition in 0..2 {
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

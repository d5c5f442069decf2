use super::*;

/// A plane of noise with a gap at the end of each row.
fn noise(width: usize, height: usize, seed: usize) -> (Vec<u8>, usize) {
    let stride = width + 5;
    let mut state = (0..seed).fold(1_u32, |state, _| state.wrapping_mul(747_796_405));
    let samples = (0..stride * height).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Black and white too, where a filter overshoots most.
        match state >> 24 {
            0..60 => 0,
            200.. => 255,
            level => level.to_be_bytes()[3],
        }
    });
    (samples.collect(), stride)
}

fn scaled(
    filter: &mut Filter,
    from: (usize, usize),
    to: (usize, usize),
    samples: &[u8],
    stride: usize,
    plainly: bool,
) -> Vec<u8> {
    let mut result = vec![0x77; (to.0 + 3) * to.1];
    let from = Plane { samples, width: from.0, height: from.1, stride };
    let mut plane = Plane { samples: &mut result[..], width: to.0, height: to.1, stride: to.0 + 3 };
    assert!(from.is_whole());
    if plainly {
        filter.scale_plainly(&from, &mut plane);
    } else {
        filter.scale(&from, &mut plane);
    }
    result
}

#[test]
fn vector_and_scalar_scaling_are_bit_exact() {
    let sizes = [
        (64, 36),
        (33, 17),
        (16, 16),
        (161, 91),
        (90, 160),
        (20, 3),
        (17, 1),
        (8, 8),
        (1, 1),
        (3, 40),
    ];
    for (number, from) in sizes.into_iter().enumerate() {
        for to in [(16, 16), (32, 18), (50, 31), (17, 2), (100, 60), (2, 2), (1, 1), from] {
            let (samples, stride) = noise(from.0, from.1, number);
            let mut filter = Filter::new(from, to);
            let vectors = scaled(&mut filter, from, to, &samples, stride, false);
            let plain = scaled(&mut filter, from, to, &samples, stride, true);
            assert!(vectors == plain, "{from:?} to {to:?}");
            // The gap between the rows is not written.
            assert!(vectors.chunks(to.0 + 3).all(|row| row[to.0..] == [0x77; 3]));
        }
    }
}

#[test]
fn a_flat_plane_stays_flat() {
    for level in [0, 1, 16, 127, 128, 235, 254, 255] {
        for (from, to) in
            [((64, 36), (40, 22)), ((33, 17), (66, 40)), ((19, 19), (19, 19)), ((1, 1), (5, 5))]
        {
            let mut filter = Filter::new(from, to);
            let result =
                scaled(&mut filter, from, to, &vec![level; from.0 * from.1], from.0, false);
            let odd = result
                .chunks(to.0 + 3)
                .flat_map(|row| &row[..to.0])
                .filter(|&&sample| sample != level);
            assert_eq!(odd.collect::<Vec<_>>(), Vec::<&u8>::new(), "{level}, {from:?} to {to:?}");
        }
    }
}

#[test]
fn scaling_does_not_shift_the_plane() {
    // A step in the middle is in the middle of the result, and symmetric.
    let samples: Vec<u8> =
        (0..24).flat_map(|_| (0..96).map(|x| if x < 48 { 50 } else { 150 })).collect();
    let result =
        scaled(&mut Filter::new((96, 24), (64, 16)), (96, 24), (64, 16), &samples, 96, false);
    let row = &result[..64];
    assert!(
        row.iter().zip(row.iter().rev()).all(|(&left, &right)| left.abs_diff(200 - right) <= 1),
        "{row:?}"
    );
    assert!(row[..28].iter().all(|&sample| sample.abs_diff(50) <= 1), "{row:?}");
}

#[test]
fn a_plane_with_too_few_samples_is_not_whole() {
    let plane = |samples, width, height, stride| Plane::<&[u8]> { samples, width, height, stride };
    assert!(plane(&[0; 14], 4, 3, 5).is_whole());
    assert!(!plane(&[0; 13], 4, 3, 5).is_whole());
    assert!(!plane(&[0; 13], 6, 1, 5).is_whole());
    assert!(!plane(&[], 0, 0, 0).is_whole());
    assert!(!plane(&[0; 13], 1, usize::MAX, usize::MAX).is_whole());
}

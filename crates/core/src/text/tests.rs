//! Tables, and random texts compared with what `str` does.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use proptest::prelude::*;

use super::*;

const LONG: &str = "a text of more than twenty bytes";

fn config() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 12 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() }
}

/// The same content made in every way there is.
fn forms(text: &str) -> Vec<Text> {
    let block = TextBlock::from_string(format!("{LONG}{text}{LONG}"));
    let mut detached = block.slice(LONG.len()..LONG.len() + text.len());
    detached.detach();
    let whole = Text::from(block.as_str());
    vec![
        Text::from(text),
        Text::from(text.to_owned()),
        block.slice(LONG.len()..LONG.len() + text.len()),
        TextBlock::from_string(text.to_owned()).text(),
        whole.slice(LONG.len()..LONG.len() + text.len()),
        Text::from(text).slice(..),
        text.chars().collect(),
        detached,
    ]
}

fn std_hash(text: &(impl Hash + ?Sized)) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

#[test]
fn a_text_is_24_bytes_and_inline_up_to_twenty() {
    assert_eq!(size_of::<Text>(), 24);
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<(Text, TextBlock, Lines, Split, SplitWhitespace)>();
    for len in 0..=64 {
        let text: String = ('a'..='z').cycle().take(len).collect();
        for form in forms(&text) {
            assert_eq!(form, text);
            assert_eq!(form.is_inline(), len <= 20);
            assert_eq!(form.fold_hash(), Text::from(text.as_str()).fold_hash());
        }
    }
}

#[test]
fn the_hash_of_a_text_never_changes() {
    let answers = [
        ("", 0x6193_b252_0b89_c984_u64),
        ("a", 0xdf42_e6b8_b044_d200),
        ("to be", 0xbf8d_63e7_a99b_a065),
        ("twelve bytes", 0x7a95_8b0f_5139_dfdd),
        ("thirteen byte", 0x1722_5579_bf5c_965b),
        ("exactly twenty bytes", 0xa504_1f5a_9d57_4cc4),
        ("twenty-one bytes here", 0x6b95_5a6b_2e75_1a94),
        ("caf\u{e9} \u{1f980}", 0xb109_a15b_3282_1104),
        ("exactly thirty-two bytes of text", 0xd243_cfe9_410f_50c2),
        ("a text that is a good deal longer than any of the others", 0xa1b6_17de_93fb_b3e2),
    ];
    let found: Vec<_> = answers.iter().map(|(text, _)| (*text, Text::from(*text).fold_hash())).collect();
    assert_eq!(found, answers, "{found:#x?}");
}

#[test]
#[cfg(not(miri))]
fn all_bits_of_the_hash_are_good() {
    type Keys = fn(usize) -> String;
    let families: [Keys; 6] = [
        |i| format!("{i}"),
        |i| format!("w{i}"),
        |i| format!("user-{i:08}"),
        |i| format!("{i:020}"),
        |i| format!("sensor/hall-7/rack-{i:06}/celsius"),
        |i| format!("{}{}", "ab".repeat(i % 8), i / 8),
    ];
    let keys = 1 << 15;
    for (family, make) in families.iter().enumerate() {
        let hashes: Vec<u64> = (0..keys).map(|i| Text::from(make(i)).fold_hash()).collect();
        let mut distinct = hashes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), keys, "family {family} collides");
        for n in [2usize, 3, 7, 10, 64, 100, 128, 1000] {
            let places: [fn(u64, usize) -> usize; 3] = [
                |h, n| (h % n as u64) as usize,
                |h, n| ((h >> 32) % n as u64) as usize,
                |h, n| ((u128::from(h) * n as u128) >> 64) as usize,
            ];
            for (which, place) in places.iter().enumerate() {
                let mut counts = vec![0f64; n];
                hashes.iter().for_each(|&h| counts[place(h, n)] += 1.0);
                let want = keys as f64 / n as f64;
                let chi: f64 = counts.iter().map(|c| (c - want).powi(2) / want).sum();
                let (mean, deviation) = ((n - 1) as f64, (2.0 * (n - 1) as f64).sqrt());
                assert!(chi < mean + 6.0 * deviation + 8.0, "family {family}, place {which}, n {n}: chi² {chi}");
            }
        }
    }
}

#[test]
fn lines_end_as_those_of_a_socket_do() {
    for (text, want) in [
        ("", vec![]),
        ("a", vec!["a"]),
        ("a\n", vec!["a"]),
        ("\n", vec![""]),
        ("\n\n", vec!["", ""]),
        ("\r\n\r\n", vec!["", ""]),
        ("\n\r", vec!["", ""]),
        ("\r\r\n", vec!["", ""]),
        ("a\rb", vec!["a", "b"]),
        ("a\r\nb\rc\nd", vec!["a", "b", "c", "d"]),
        ("a\r", vec!["a"]),
    ] {
        assert_eq!(TextBlock::from_string(text.to_owned()).lines().collect::<Vec<_>>(), want, "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    for bytes in [&b"ab\xff\ncd\xf0\x9f"[..], b"\xc3", b"\xed\xa0\x80 and what is behind it", b"fine"] {
        assert_eq!(TextBlock::from_bytes(bytes.to_vec()).as_str(), String::from_utf8_lossy(bytes));
    }
}

#[test]
fn split_gives_what_str_gives_in_odd_cases() {
    for text in ["", " ", "  ", "a", " a", "a ", "é", "aéa", "ab\0c", "twenty bytes and a word\0", LONG] {
        for separator in ["", " ", "a", "aa", "é", "\0", "ab", LONG, "a separator which is not there"] {
            for form in forms(text) {
                assert_eq!(form.split(separator).collect::<Vec<_>>(), text.split(separator).collect::<Vec<_>>());
            }
        }
    }
    let mut split = Text::from("a b").split(' ');
    assert_eq!(format!("{split:?}"), "Split(Some(\"a b\"))");
    assert_eq!(split.by_ref().count(), 2);
    assert_eq!((split.next(), split.next()), (None, None));
}

#[test]
fn an_iterator_may_be_moved_between_pieces() {
    // The pointers into an inline text must be made anew each time.
    let mut boxed = Box::new(Text::from("to be or not to be").split(' '));
    assert_eq!(boxed.next().as_deref(), Some("to"));
    let mut moved = *boxed;
    assert_eq!(moved.next().as_deref(), Some("be"));
    let copy = moved.clone();
    assert_eq!(copy.chain(moved).collect::<Text2>().0, "or not to be or not to be");

    struct Text2(String);
    impl FromIterator<Text> for Text2 {
        fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Text2 {
            Text2(texts.into_iter().map(String::from).collect::<Vec<_>>().join(" "))
        }
    }
}

#[test]
fn a_text_is_equal_to_strings_both_ways() {
    for content in ["be", LONG] {
        let text = Text::from(content);
        let owned = content.to_owned();
        assert!(text == *content && text == content && text == owned);
        assert!(*content == text && content == text && owned == text);
        assert_ne!(text, "else");
        assert_eq!((format!("{text:>40}|"), format!("{text:?}")), (format!("{content:>40}|"), format!("{content:?}")));
        assert_eq!(content.parse(), Ok(text.clone()));
        assert_eq!((Text::from(Cow::Borrowed(content)), Text::from(&content.to_owned())), (text.clone(), text));
    }
    assert_eq!((Text::default(), Text::from('é')), (Text::new(), Text::from("é")));
    assert_eq!(["to", " ", "be"].into_iter().collect::<Text>(), "to be");
    assert_eq!(HashMap::from([(Text::from(LONG), 1)]).get(LONG), Some(&1));
}

#[test]
fn a_block_is_counted_by_the_texts_that_need_it() {
    let block = TextBlock::from_string(format!("{LONG}\nshort\n{LONG}"));
    assert_eq!(block.0.owners(), 1);
    let lines: Vec<_> = block.lines().collect();
    assert_eq!(block.0.owners(), 3);
    let words: Vec<_> = lines[0].split(' ').collect();
    assert_eq!((words.len(), block.0.owners()), (7, 3));
    let cloned = lines.clone();
    assert_eq!(block.0.owners(), 5);
    drop((lines, words));
    assert_eq!(block.0.owners(), 3);
    drop(cloned);
    assert_eq!(block.0.owners(), 1);
}

#[test]
fn large_buffers_are_taken_over_and_small_ones_copied() {
    for len in [0, 1, 20, 21, 4095, 4096, 4097, 10_000] {
        for spare in [0, 23, 24, 100, 50_000] {
            let mut text = String::with_capacity(len + spare);
            text.extend(std::iter::repeat_n('x', len));
            let before = text.as_ptr().addr();
            let block = TextBlock::from_string(text);
            assert_eq!((block.len(), block.as_str().trim_matches('x')), (len, ""));
            if len >= 4096 && (24..1000).contains(&spare) {
                assert_eq!(block.as_str().as_ptr().addr(), before, "no copy");
            }
            assert_eq!(block.text().split('x').count(), len + 1);
        }
    }
}

#[test]
fn a_detached_text_lets_its_block_go() {
    let block = TextBlock::from_string(format!("{LONG}\n").repeat(100));
    let mut key = block.slice(..LONG.len());
    let mut most = block.slice(..block.len() - 1);
    let mut short = block.slice(..4);
    assert_eq!(block.0.owners(), 3);
    key.detach();
    assert_eq!((&*key, block.0.owners()), (LONG, 2));
    key.detach();
    most.detach();
    short.detach();
    assert_eq!((block.0.owners(), &*short), (2, "a te"));
}

#[test]
fn texts_are_cut_and_dropped_on_many_threads() {
    let block = TextBlock::from_string(format!("{LONG} {LONG}\n").repeat(if cfg!(miri) { 5 } else { 500 }));
    let bytes = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let lines = block.lines();
            let bytes = &bytes;
            scope.spawn(move || {
                let kept: Vec<Text> = lines.flat_map(|line| [line.clone(), line.slice(LONG.len() + 1..)]).collect();
                bytes.fetch_add(kept.iter().map(|text| text.len()).sum(), Atomic::Relaxed);
            });
        }
    });
    assert_eq!(block.0.owners(), 1);
    assert_eq!(bytes.into_inner(), 4 * block.lines().count() * (3 * LONG.len() + 1));
    let last = block.slice(..LONG.len());
    drop(block);
    std::thread::scope(|scope| drop(scope.spawn(move || assert_eq!(last, LONG))));
}

#[test]
fn slice_ref_takes_what_str_gives() {
    for text in ["  be ", "   a text of more than twenty bytes   ", "   "] {
        for form in forms(text) {
            assert_eq!(form.slice_ref(form.trim()), text.trim());
        }
    }
    assert_eq!(Text::from("any").slice_ref(""), "");
}

#[test]
#[should_panic(expected = "not a part of this text")]
fn slice_ref_of_another_text_panics() {
    let _ = Text::from("one text").slice_ref("one");
}

#[test]
#[should_panic(expected = "char boundary")]
fn a_slice_inside_a_character_panics() {
    let _ = Text::from("caf\u{e9}").slice(..4);
}

/// Text with everything that matters: separators, both kinds of whitespace, wide characters, zeros, lengths around 20.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab, é\u{3000}\u{85}\t\0]{0,60}", "\\PC{0,30}", "[a-c ]{0,24}", "[a-z]{0,12}( [a-z]{0,22}){0,6}"]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pieces_are_those_of_str(text in text(), separator in prop::sample::select(vec!["", " ", ",", "a", "é", "ab", ", ", "\0"])) {
        for form in forms(&text) {
            prop_assert_eq!(form.split(separator).collect::<Vec<_>>(), text.split(separator).collect::<Vec<_>>());
            if let Ok(separator) = separator.parse::<char>() {
                prop_assert_eq!(form.split(separator).collect::<Vec<_>>(), text.split(separator).collect::<Vec<_>>());
            }
            prop_assert_eq!(form.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn lines_are_those_of_a_simple_loop(text in "([ab\r\n]|[a-z ]{0,30}|\r\n){0,40}") {
        let one = text.replace("\r\n", "\n").replace('\r', "\n");
        let want: Vec<_> = one.strip_suffix('\n').unwrap_or(&one).split('\n').collect();
        let want = if text.is_empty() { vec![] } else { want };
        prop_assert_eq!(TextBlock::from_bytes(text.into_bytes()).lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn texts_compare_and_hash_as_str(a in text(), b in text(), same in "[ab\0]{0,30}") {
        let (longer, other) = (format!("{same}{a}"), format!("{same}{b}"));
        for (a, b) in [(&a, &b), (&longer, &other), (&same, &longer), (&same, &same)] {
            for (x, y) in forms(a).iter().zip(forms(b).iter().rev()) {
                prop_assert_eq!(x == y, a == b);
                prop_assert_eq!(x.cmp(y), a.cmp(b));
                prop_assert_eq!(x.fold_hash() == y.fold_hash(), a == b);
                prop_assert_eq!(std_hash(x), std_hash(a.as_str()));
            }
        }
    }

    #[test]
    fn slices_are_those_of_str(text in text(), from in 0usize..40, len in 0usize..40) {
        if let Some(part) = text.get(from..from + len) {
            for form in forms(&text) {
                prop_assert_eq!(form.slice(from..from + len), part);
                prop_assert_eq!(form.slice_ref(&form[from..from + len]), part);
            }
        }
    }

    #[test]
    fn texts_are_written_and_read_as_str(text in text()) {
        for form in forms(&text) {
            let bytes = postcard::to_stdvec(&form).expect("text is written");
            prop_assert_eq!(&bytes, &postcard::to_stdvec(&text).expect("text is written"));
            prop_assert_eq!(postcard::from_bytes::<Text>(&bytes).expect("text is read"), &*text);
            let bytes = postcard::to_allocvec(&form).expect("text is written");
            prop_assert_eq!(postcard::from_bytes::<Text>(&bytes).expect("text is read"), &*text);
        }
    }
}

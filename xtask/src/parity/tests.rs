// The table of parity: what is refused in it, and the page it becomes.

use super::*;

fn item(id: &str, status: &str) -> Item {
    Item {
        id: id.into(),
        spark: "map".into(),
        says: "Changes each element.".into(),
        status: status.into(),
        ..Item::default()
    }
}

fn done(ours: &str, test: &str) -> Item {
    Item { ours: ours.into(), test: test.into(), ..item("DS08", "done") }
}

fn wrong(items: &[Item]) -> Vec<String> {
    let read = |path: &str| {
        match path {
        "crates/a.rs" => {
            Some("//! ```\n/// ```\n/// f();\n/// ```\n#[track_caller]\npub fn shown() {}\n// fn gone\nfn works_twice() {}\n".to_owned())
        }
        "crates/b.rs" => Some("fn other<T>() {}".to_owned()),
        _ => None,
    }
    };
    let names = [["DStream", "map"], ["capture", "pam"]].map(|file| file.map(str::to_owned).into());
    problems(items, &read, &names)
}

#[test]
fn what_is_done_has_a_name_in_the_code_and_a_test_that_exists() {
    for (ours, test, want) in [
        ("DStream::map", "crates/b.rs::other", ""),
        ("DStream::map, capture", "crates/b.rs::other, crates/a.rs (docs)", ""),
        ("DStream::map", "crates/b.rs::module::other", ""),
        ("", "crates/b.rs::other", "DS08: done, but `ours` is empty"),
        ("DStream::map", "", "DS08: done, but `test` is empty"),
        ("DStream::pam", "crates/b.rs::other", "DS08: `DStream::pam`: no file under crates/*/src has it"),
        ("map", "crates/a.rs::works", "DS08: test `crates/a.rs::works`: crates/a.rs has no `fn works`"),
        ("map", "crates/a.rs::gone", "DS08: test `crates/a.rs::gone`: crates/a.rs has no `fn gone`"),
        ("map", "crates/c.rs::x", "DS08: test `crates/c.rs::x`: there is no file crates/c.rs"),
        ("map", "crates/b.rs (docs)", "DS08: test `crates/b.rs (docs)`: crates/b.rs has no example in its docs"),
        ("map", "crates/a.rs (docs of shown)", ""),
        (
            "map",
            "crates/a.rs (docs of works_twice)",
            "DS08: test `crates/a.rs (docs of works_twice)`: crates/a.rs has no example in the docs of `works_twice`",
        ),
        ("map", "other", "DS08: test `other` is neither `path.rs::name` nor `path.rs (docs of name)`"),
    ] {
        assert_eq!(wrong(&[done(ours, test)]).join("\n"), want, "{ours} {test}");
    }
}

#[test]
fn what_is_left_out_has_a_reason_and_a_status_is_one_of_three() {
    assert_eq!(wrong(&[item("SC32", "left out")]), ["SC32: left out, but `why` is empty"]);
    assert!(wrong(&[Item { why: "there are no jars".into(), ..item("SC32", "left out") }]).is_empty());
    assert_eq!(wrong(&[item("SC32", "soon")]), ["SC32: the status is `done`, `not yet` or `left out`, not `soon`"]);
    assert!(wrong(&[item("SC32", "not yet")]).is_empty());
}

#[test]
fn ids_are_known_and_stand_once_and_in_order() {
    let items = ["SC01", "SC03", "SC02", "DS01", "SC03", "S-2", "XX1", "R-1"].map(|id| item(id, "not yet"));
    assert_eq!(
        wrong(&items),
        ["SC02: the id is out of order", "SC03: the id stands twice", "XX1: the id belongs to no section"]
    );
}

#[test]
fn names_end_where_arguments_begin() {
    for (path, want) in [
        ("DStream::map", &["DStream", "map"][..]),
        ("Conf::set(key)", &["Conf", "set"]),
        ("Rdd<T>", &["Rdd"]),
        ("bug!", &["bug"]),
    ] {
        assert_eq!(path_of(path).collect::<Vec<_>>(), want);
    }
}

#[test]
fn a_list_is_split_at_commas_outside_of_parentheses() {
    let parts: Vec<&str> = listed("stop(now, gracefully), start, a.rs (docs of b)").collect();
    assert_eq!(parts, ["stop(now, gracefully)", "start", "a.rs (docs of b)"]);
    assert_eq!(listed("").count(), 0);
}

#[test]
fn the_page_counts_and_has_a_table_a_section() {
    let left_out = Item { why: "there are no jars".into(), ours: String::new(), ..item("SC32", "left out") };
    let rule = Item { spark: String::new(), why: "windows".into(), ..item("S-1", "not yet") };
    let page = page(&[left_out, done("DStream::map, capture", "crates/b.rs::other"), rule]);
    assert!(page.starts_with("<!-- Made by `cargo xtask parity`"));
    for line in [
        "| **all** | 3 | 1 | 1 | 1 |",
        "| DStream | 1 | 1 | 0 | 0 |",
        "## Rules of behaviour",
        "| S-1 | Changes each element. |  |  | not yet: windows |",
        "| SC32 | `map` | Changes each element. |  |  | left out: there are no jars |",
        "| DS08 | `map` | Changes each element. | `DStream::map`, `capture` | `crates/b.rs::other` | done |",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

#[test]
fn a_bar_does_not_end_a_cell() {
    assert_eq!(cell("a | b\nc"), "a \\| b c");
}

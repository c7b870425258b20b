//! A list whose elements have strategies of their own, and which shrinks by leaving elements out.

use std::fmt::Debug;

use proptest::strategy::{BoxedStrategy, NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// As many values as there are strategies. `proptest::collection::vec` has one strategy for all, and vectors of strategies do
/// not shrink in length.
#[derive(Debug)]
pub(crate) struct Listed<T>(Vec<BoxedStrategy<T>>);

impl<T: Debug> Listed<T> {
    pub(crate) fn new<S: Strategy<Value = T> + 'static>(elements: impl Iterator<Item = S>) -> Listed<T> {
        Listed(elements.map(Strategy::boxed).collect())
    }
}

impl<T: Debug> Strategy for Listed<T> {
    type Tree = ListedTree<T>;
    type Value = Vec<T>;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let mut elements = Vec::new();
        for element in &self.0 {
            elements.push((true, element.new_tree(runner)?));
        }
        Ok(ListedTree { elements, at: 0, leaving_out: true, last: None })
    }
}

pub(crate) struct ListedTree<T> {
    /// The elements, and whether they are there.
    elements: Vec<(bool, Box<dyn ValueTree<Value = T>>)>,
    /// The element that is to be shrunk.
    at: usize,
    /// Whether elements are left out; behind that, those that are there shrink.
    leaving_out: bool,
    /// The element that shrank last.
    last: Option<usize>,
}

impl<T: Debug> ValueTree for ListedTree<T> {
    type Value = Vec<T>;

    fn current(&self) -> Vec<T> {
        self.elements.iter().filter(|(there, _)| *there).map(|(_, element)| element.current()).collect()
    }

    fn simplify(&mut self) -> bool {
        loop {
            let Some((there, element)) = self.elements.get_mut(self.at) else {
                if self.leaving_out {
                    (self.leaving_out, self.at) = (false, 0);
                    continue;
                }
                return false;
            };
            if self.leaving_out {
                *there = false;
                self.last = Some(self.at);
                self.at += 1;
                return true;
            }
            if *there && element.simplify() {
                self.last = Some(self.at);
                return true;
            }
            self.at += 1;
        }
    }

    fn complicate(&mut self) -> bool {
        let Some((there, element)) = self.last.and_then(|last| self.elements.get_mut(last)) else { return false };
        if self.leaving_out {
            self.last = None;
            *there = true;
            return true;
        }
        let changed = element.complicate();
        if !changed {
            self.last = None;
        }
        changed
    }
}

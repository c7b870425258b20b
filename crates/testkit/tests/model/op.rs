//! An operation of a random program, and what it is given.

use std::time::Duration;

use proptest::prelude::*;

use super::meaning::Pair;

/// Declares the kinds of operations, and a list of them.
macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// Which operation it is, by the name of the method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $($kind),* }

        impl Kind {
            pub(crate) const ALL: &'static [Kind] = &[$(Kind::$kind),*];
        }
    };
}

kinds!(
    Map,
    Filter,
    FlatMap,
    MapValues,
    FlatMapValues,
    Repartition,
    TransformSort,
    TransformDistinct,
    TransformWith,
    Union,
    Reduce,
    Count,
    CountByValue,
    ReduceByKey,
    GroupByKey,
    CombineByKey,
    Cogroup,
    Join,
    LeftOuterJoin,
    RightOuterJoin,
    FullOuterJoin,
    Window,
    ReduceByWindow,
    ReduceByWindowInv,
    CountByWindow,
    CountByValueAndWindow,
    ReduceByKeyAndWindow,
    ReduceByKeyAndWindowInv,
    ReduceByKeyAndWindowInvFiltered,
    GroupByKeyAndWindow,
    UpdateStateByKey,
    UpdateStateByKeyInitial,
    MapWithState,
    MapWithStateTimeout,
    StateSnapshots,
);

impl Kind {
    /// Says whether a batch fails in which the parent has no Rdd (S-13).
    pub(crate) fn needs_rdds(self) -> bool {
        use Kind::*;
        matches!(
            self,
            TransformSort
                | TransformDistinct
                | TransformWith
                | Union
                | Cogroup
                | Join
                | LeftOuterJoin
                | RightOuterJoin
                | FullOuterJoin
        )
    }

    /// Says whether there is an Rdd in each batch, whatever the parent has (S-13, S-14).
    pub(crate) fn gives_rdds(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Window
                | ReduceByWindow
                | ReduceByWindowInv
                | CountByWindow
                | CountByValueAndWindow
                | ReduceByKeyAndWindow
                | ReduceByKeyAndWindowInv
                | ReduceByKeyAndWindowInvFiltered
                | GroupByKeyAndWindow
                | MapWithState
                | MapWithStateTimeout
                | StateSnapshots
        )
    }
}

/// An operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    /// A number of which it makes what it likes.
    pub(crate) n: u8,
    /// Length and slide of its window, in slides of its parent.
    window: (u32, u32),
    /// Whether the other stream of a join is its own.
    pub(crate) with_itself: bool,
    /// Whether its state is saved often, rather than when it likes.
    pub(crate) saved: bool,
    /// The state with which it begins.
    pub(crate) initial: Vec<Pair>,
}

/// No stream has fewer batches than one in three seconds: there would be too few.
const LONGEST_SLIDE: Duration = Duration::from_secs(3);

impl Op {
    /// Its window on a stream with this slide.
    pub(crate) fn window(&self, slide: Duration) -> (Duration, Duration) {
        let (length, step) = self.window;
        let fits = slide * step <= LONGEST_SLIDE;
        (slide * length, if fits { slide * step } else { slide })
    }
}

/// Operations of a kind.
pub(crate) fn op(kind: Kind) -> impl Strategy<Value = Op> {
    let window = (1u32..4, prop_oneof![3 => Just(1u32), 1 => Just(2), 1 => Just(3)]);
    let initial = proptest::collection::vec((0u8..8, -9i64..10), 0..4);
    (0u8..4, window, any::<bool>(), any::<bool>(), initial)
        .prop_map(move |(n, window, with_itself, saved, initial)| Op { kind, n, window, with_itself, saved, initial })
}

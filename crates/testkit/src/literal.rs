//! What may be written in a test's table, and the element that it stands for.

use millstream_core::{ExchangeData, Text};

/// Something that can be written down in a test and becomes an element: texts become [`Text`], numbers stay what they
/// are, and so do tuples, lists and options of them.
pub trait Literal {
    /// What it becomes.
    type Element: ExchangeData;
    /// Makes the element.
    fn element(self) -> Self::Element;
}

impl Literal for &str {
    type Element = Text;
    fn element(self) -> Text {
        Text::from(self)
    }
}

macro_rules! plain {
    ($($ty:ty),*) => {
        $(impl Literal for $ty {
            type Element = $ty;
            fn element(self) -> $ty {
                self
            }
        })*
    };
}

plain!(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, usize, isize, f32, f64, bool, char, String, Text, ());

macro_rules! tuple {
    ($($name:ident)*) => {
        impl<$($name: Literal),*> Literal for ($($name,)*) {
            type Element = ($($name::Element,)*);
            fn element(self) -> Self::Element {
                #[allow(non_snake_case, reason = "each value is named as its type")]
                let ($($name,)*) = self;
                ($($name.element(),)*)
            }
        }
    };
}

tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);

impl<L: Literal> Literal for Vec<L> {
    type Element = Vec<L::Element>;
    fn element(self) -> Self::Element {
        self.into_iter().map(Literal::element).collect()
    }
}

impl<L: Literal> Literal for Option<L> {
    type Element = Option<L::Element>;
    fn element(self) -> Self::Element {
        self.map(Literal::element)
    }
}

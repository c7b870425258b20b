//! Rows that need no name: tuples, and single values.

use bytes::Bytes;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::Field;
use millstream_core::{Result, Text, Time};

use super::values::{Date, Decimal};
use super::{Cell, ColumnsOf, Row};

macro_rules! tuples {
    ($(($($cell:ident $place:tt),*) of $count:literal;)*) => {$(
        impl<$($cell: Cell),*> Row for ($($cell,)*) {
            type Builders = ($($cell::Builder,)*);
            type Readers = ($($cell::Reader,)*);
            const BY_POSITION: bool = true;

            fn fields() -> Vec<Field> {
                vec![$($cell::field(&format!("_{}", $place + 1))),*]
            }

            fn builders(rows: usize) -> Self::Builders {
                ($($cell::builder(rows),)*)
            }

            fn append_row(&self, builders: &mut Self::Builders) {
                $(self.$place.append_cell(&mut builders.$place);)*
            }

            fn append_null_row(builders: &mut Self::Builders) {
                $($cell::append_null_cell(&mut builders.$place);)*
            }

            fn finish(builders: Self::Builders) -> Vec<ArrayRef> {
                vec![$($cell::finish(builders.$place)),*]
            }

            fn readers(from: &ColumnsOf<'_>) -> Result<Self::Readers> {
                from.count($count)?;
                Ok(($(from.at::<$cell>($place)?,)*))
            }

            fn get(readers: &Self::Readers, row: usize) -> Self {
                ($($cell::read(&readers.$place, row),)*)
            }
        }

        $crate::cells_of_row!([<$($cell: Cell),*>] ($($cell,)*) []);
    )*};
}

tuples! {
    (A 0) of 1;
    (A 0, B 1) of 2;
    (A 0, B 1, C 2) of 3;
    (A 0, B 1, C 2, D 3) of 4;
    (A 0, B 1, C 2, D 3, E 4) of 5;
    (A 0, B 1, C 2, D 3, E 4, F 5) of 6;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6) of 7;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7) of 8;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8) of 9;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9) of 10;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10) of 11;
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11) of 12;
}

/// A value alone is a row with the column `value`.
macro_rules! single {
    ($([$($generics:tt)*] $cell:ty),*) => {$(
        impl<$($generics)*> Row for $cell {
            type Builders = <$cell as Cell>::Builder;
            type Readers = <$cell as Cell>::Reader;
            const BY_POSITION: bool = true;

            fn fields() -> Vec<Field> {
                vec![<$cell>::field("value")]
            }

            fn builders(rows: usize) -> Self::Builders {
                <$cell>::builder(rows)
            }

            fn append_row(&self, builders: &mut Self::Builders) {
                self.append_cell(builders);
            }

            fn append_null_row(builders: &mut Self::Builders) {
                <$cell>::append_null_cell(builders);
            }

            fn finish(builders: Self::Builders) -> Vec<ArrayRef> {
                vec![<$cell as Cell>::finish(builders)]
            }

            fn readers(from: &ColumnsOf<'_>) -> Result<Self::Readers> {
                from.count(1)?;
                from.at::<$cell>(0)
            }

            fn get(readers: &Self::Readers, row: usize) -> Self {
                <$cell>::read(readers, row)
            }
        }
    )*};
}

single!([] i8, [] i16, [] i32, [] i64, [] u8, [] u16, [] u32, [] u64, [] f32, [] f64);
single!([] bool, [] char, [] String, [] Text, [] Bytes, [] Time, [] Date);
single!([const P: u8, const S: i8] Decimal<P, S>, [C: Cell] Option<C>, [C: Cell] Vec<C>);

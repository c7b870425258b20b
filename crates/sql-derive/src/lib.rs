//! `#[derive(Row)]`: a struct with named fields as a row of columns, and an enum of names as a column. `millstream-sql` has the trait, and says what it means.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DataEnum, DeriveInput, Fields, Ident, LitStr, Type, parse_macro_input};

/// Makes a struct a row of columns, for programs that depend on the crate `millstream-sql` itself.
#[proc_macro_derive(Row, attributes(row))]
pub fn row(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input, &quote!(::millstream_sql)).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Makes a struct a row of columns, for programs that depend on the crate `millstream` with its feature `sql`.
#[proc_macro_derive(RowOfMillstream, attributes(row))]
pub fn row_of_millstream(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input, &quote!(::millstream::sql)).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// A field of the struct, and the column that it is.
struct Column<'a> {
    field: &'a Ident,
    name: String,
    of: &'a Type,
}

fn expand(input: &DeriveInput, home: &TokenStream) -> syn::Result<TokenStream> {
    if let Data::Enum(of) = &input.data {
        return variants(input, of, home);
    }
    let columns = columns(input)?;
    let (names, fields): (Vec<_>, Vec<_>) = columns.iter().map(|c| (&c.name, c.field)).unzip();
    let types: Vec<_> = columns.iter().map(|c| c.of).collect();
    let places: Vec<_> = (0..columns.len()).map(syn::Index::from).collect();
    let built: Vec<_> = (0..columns.len()).map(|i| format_ident!("column_{i}")).collect();

    let struct_name = &input.ident;
    let mut generics = input.generics.clone();
    let parameters: Vec<_> = generics.type_params().map(|p| p.ident.clone()).collect();
    for parameter in parameters {
        generics.make_where_clause().predicates.push(syn::parse_quote!(#parameter: #home::Cell));
    }
    let (impl_generics, type_generics, bounds) = generics.split_for_impl();
    // A mistake in a field's type is shown at the field.
    let of_cells = columns.iter().map(|c| {
        let of = c.of;
        quote_spanned!(of.span()=> <#of as #home::Cell>::field)
    });

    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #home::Row for #struct_name #type_generics #bounds {
            type Builders = (#(<#types as #home::Cell>::Builder,)*);
            type Readers = (#(<#types as #home::Cell>::Reader,)*);
            const BY_POSITION: bool = false;

            fn fields() -> ::std::vec::Vec<#home::arrow::datatypes::Field> {
                ::std::vec![#(#of_cells(#names)),*]
            }

            fn builders(rows: usize) -> Self::Builders {
                (#(<#types as #home::Cell>::builder(rows),)*)
            }

            fn append_row(&self, builders: &mut Self::Builders) {
                #(#home::Cell::append_cell(&self.#fields, &mut builders.#places);)*
            }

            fn append_null_row(builders: &mut Self::Builders) {
                #(<#types as #home::Cell>::append_null_cell(&mut builders.#places);)*
            }

            fn finish(builders: Self::Builders) -> ::std::vec::Vec<#home::arrow::array::ArrayRef> {
                let (#(#built,)*) = builders;
                ::std::vec![#(<#types as #home::Cell>::finish(#built)),*]
            }

            fn readers(from: &#home::ColumnsOf<'_>) -> #home::Result<Self::Readers> {
                ::std::result::Result::Ok((#(from.named::<#types>(#names)?,)*))
            }

            fn get(readers: &Self::Readers, row: usize) -> Self {
                Self { #(#fields: <#types as #home::Cell>::read(&readers.#places, row)),* }
            }
        }

        #home::cells_of_row!([#impl_generics] #struct_name #type_generics [#bounds]);
    })
}

/// An enum is a column of the names of its variants.
fn variants(input: &DeriveInput, of: &DataEnum, home: &TokenStream) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new(input.generics.span(), "an enum that is a column has no parameters"));
    }
    let (mut idents, mut names) = (Vec::new(), Vec::<String>::new());
    for variant in &of.variants {
        if !matches!(variant.fields, Fields::Unit) {
            let text = "a variant of a column has a name and no fields: write a struct of options instead";
            return Err(syn::Error::new(variant.fields.span(), text));
        }
        let own = || variant.ident.to_string().trim_start_matches("r#").to_owned();
        let name = renamed(&variant.attrs)?.unwrap_or_else(own);
        if names.contains(&name) {
            return Err(syn::Error::new(variant.span(), format!("two variants are called `{name}`")));
        }
        idents.push(&variant.ident);
        names.push(name);
    }
    if names.is_empty() {
        return Err(syn::Error::new(input.ident.span(), "an enum that is a column has a variant"));
    }
    let enum_name = &input.ident;
    let places = 0..names.len();
    let last = &idents[names.len() - 1];
    let (before, places_before) = (&idents[..names.len() - 1], 0..names.len() - 1);
    Ok(quote! {
        #[automatically_derived]
        impl #home::Variants for #enum_name {
            const NAMES: &'static [&'static str] = &[#(#names),*];

            fn place(&self) -> usize {
                match self {
                    #(Self::#idents => #places,)*
                }
            }

            fn at(place: usize) -> Self {
                match place {
                    #(#places_before => Self::#before,)*
                    _ => Self::#last,
                }
            }
        }

        #home::cells_of_variants!(#enum_name);
    })
}

fn columns(input: &DeriveInput) -> syn::Result<Vec<Column<'_>>> {
    let Data::Struct(data) = &input.data else {
        let text = "a row is a struct, and a column an enum of names: write a struct of options";
        return Err(syn::Error::new(input.ident.span(), text));
    };
    let Fields::Named(fields) = &data.fields else {
        let text = "the columns of a row are its named fields; a plain tuple is a row of `_1`, `_2`, …";
        return Err(syn::Error::new(input.ident.span(), text));
    };
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(syn::Error::new(lifetime.span(), "a row owns what it holds: use `String` or `Text`, not a borrow"));
    }
    if fields.named.is_empty() {
        return Err(syn::Error::new(input.ident.span(), "a row has at least one column"));
    }
    let mut columns: Vec<Column<'_>> = Vec::new();
    for field in &fields.named {
        let ident = field.ident.as_ref().ok_or_else(|| syn::Error::new(field.span(), "a field of a row has a name"))?;
        let name = renamed(&field.attrs)?.unwrap_or_else(|| ident.to_string().trim_start_matches("r#").to_owned());
        if columns.iter().any(|c| c.name.eq_ignore_ascii_case(&name)) {
            let text = format!("two columns are called `{name}`: SQL finds names without regard to case");
            return Err(syn::Error::new(field.span(), text));
        }
        columns.push(Column { field: ident, name, of: &field.ty });
    }
    Ok(columns)
}

/// Reads `#[row(rename = "…")]`.
fn renamed(attributes: &[Attribute]) -> syn::Result<Option<String>> {
    let mut name = None;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("rename") {
                return Err(meta.error("a field of a row knows `#[row(rename = \"…\")]`"));
            }
            let value: LitStr = meta.value()?.parse()?;
            if value.value().is_empty() {
                return Err(meta.error("a column has a name"));
            }
            name = Some(value.value());
            Ok(())
        })?;
    }
    Ok(name)
}

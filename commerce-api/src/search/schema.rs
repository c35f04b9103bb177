//! The fields of the index, how their text is cut into words, and how much each one weighs.
//!
//! Place: used by `super::index` (writing) and `super::query` (asking); both must cut words alike.
//! Shape: two text fields for words; exact and fast fields for filters, facets and sorting; one stored card.

use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer,
    StopWordFilter, TextAnalyzer,
};
use tantivy::{Index, Term};

/// The name of our way to cut English product texts.
const ANALYZER: &str = "souk_en";
/// Longer words are serial numbers or noise and are not indexed.
const WORD_BYTES_MAX: usize = 40;

pub(super) const PRICE: &str = "price";
pub(super) const RATING: &str = "rating";
pub(super) const REVIEWS: &str = "reviews";
pub(super) const CREATED: &str = "created";
pub(super) const NAME: &str = "name";
pub(super) const ID: &str = "id";
pub(super) const BRAND_EXACT: &str = "brand_exact";
pub(super) const CATEGORY_EXACT: &str = "category_exact";

/// How much a word counts in each field, relative to each other.
///
/// Tuned by hand on judged searches of an electronics catalogue (`examples/judge_search.rs`). One bag of all
/// words did best; separate fields for brand, category, attributes and description each lost a little.
/// What names the thing counts a second time, which helps where descriptions ramble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// In the title, the brand or the category path.
    pub naming: f32,
    /// Anywhere: title, brand, category path, attributes, highlights, description.
    pub everything: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            naming: 0.1,
            everything: 1.0,
        }
    }
}

/// The fields of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) naming: Field,
    pub(super) everything: Field,
    pub(super) id: Field,
    pub(super) brand_exact: Field,
    pub(super) category_exact: Field,
    pub(super) price: Field,
    pub(super) rating: Field,
    pub(super) reviews: Field,
    pub(super) created: Field,
    pub(super) name: Field,
    pub(super) card: Field,
}

impl Fields {
    /// The text fields with their weights.
    pub(super) fn weighted(&self, weights: &Weights) -> [(Field, f32); 2] {
        [
            (self.naming, weights.naming),
            (self.everything, weights.everything),
        ]
    }

    /// The term that finds the one document of a product.
    pub(super) fn id_term(&self, id: &str) -> Term {
        Term::from_field_text(self.id, id)
    }
}

/// The schema, and its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let words = TextFieldIndexing::default()
        .set_tokenizer(ANALYZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let text = TextOptions::default().set_indexing_options(words);
    let exact = STRING | FAST;
    let mut builder = Schema::builder();
    let fields = Fields {
        naming: builder.add_text_field("naming", text.clone()),
        everything: builder.add_text_field("everything", text),
        id: builder.add_text_field(ID, exact.clone()),
        brand_exact: builder.add_text_field(BRAND_EXACT, exact.clone()),
        category_exact: builder.add_text_field(CATEGORY_EXACT, exact.clone()),
        price: builder.add_i64_field(PRICE, FAST | INDEXED),
        rating: builder.add_f64_field(RATING, FAST),
        reviews: builder.add_u64_field(REVIEWS, FAST),
        created: builder.add_u64_field(CREATED, FAST),
        name: builder.add_text_field(NAME, exact),
        card: builder.add_bytes_field("card", STORED),
    };
    (builder.build(), fields)
}

/// Teaches `index` our way to cut words.
pub(super) fn register_analyzer(index: &Index) {
    index.tokenizers().register(ANALYZER, analyzer());
}

/// Cuts a text into the words the index knows.
pub(super) fn analyzer() -> TextAnalyzer {
    let stop_words =
        StopWordFilter::new(Language::English).expect("the English list is compiled in");
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(stop_words)
        .filter(Stemmer::new(Language::English))
        .build()
}

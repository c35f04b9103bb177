//! Turns what a customer typed into a query.
//!
//! Place: used by `super::index`.
//! Shape: every word may stand in any text field, each field with its weight; a product with more of the words
//! scores higher. Requiring all words was tried and lost: catalogues rarely say everything a customer types.
//! Similar spellings come second, only when a search found next to nothing, because they all score alike.

use std::collections::BTreeSet;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, FuzzyTermQuery, Occur, Query, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::tokenizer::TextAnalyzer;

use super::schema::{Fields, Weights};

/// Words beyond this many are ignored: nobody types more, and each costs a lookup in every field.
const WORDS_MAX: usize = 32;
/// Words shorter than this have no similar spellings: almost everything would match.
const SIMILAR_CHARS_MIN: usize = 4;
/// Words from this length on may differ in two places.
const SIMILAR_TWICE_CHARS_MIN: usize = 8;

/// The distinct words of `text`, in order of appearance, as the index knows them.
pub(super) fn words(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut words = Vec::new();
    let mut stream = analyzer.token_stream(text);
    while stream.advance() && words.len() < WORDS_MAX {
        let word = &stream.token().text;
        if seen.insert(word.clone()) {
            words.push(word.clone());
        }
    }
    words
}

/// Everything, optionally only one category.
pub(super) fn everything(fields: &Fields, category: Option<&str>) -> Box<dyn Query> {
    filtered(fields, Box::new(AllQuery), category)
}

/// Products that hold at least `needed` of the words.
pub(super) fn any_words(
    fields: &Fields,
    weights: &Weights,
    words: &[String],
    needed: usize,
    category: Option<&str>,
) -> Box<dyn Query> {
    let per_word: Vec<Box<dyn Query>> = words
        .iter()
        .map(|word| in_any_field(fields, weights, word))
        .collect();
    let parted: Box<dyn Query> = Box::new(BooleanQuery::union_with_minimum_required_clauses(
        per_word, needed,
    ));
    // `head set` and `headset` are one thing to a customer: a neighbouring pair also counts as one word.
    let joined = words
        .windows(2)
        .map(|pair| in_any_field(fields, weights, &pair.concat()));
    let query = BooleanQuery::union(joined.chain([parted]).collect());
    filtered(fields, Box::new(query), category)
}

/// Products that hold, for each word, the word or one spelled almost like it in what names the thing.
pub(super) fn similar_words(
    fields: &Fields,
    words: &[String],
    category: Option<&str>,
) -> Box<dyn Query> {
    let per_word = words.iter().map(|word| similar(fields, word)).collect();
    filtered(
        fields,
        Box::new(BooleanQuery::intersection(per_word)),
        category,
    )
}

fn in_any_field(fields: &Fields, weights: &Weights, word: &str) -> Box<dyn Query> {
    let clauses = fields
        .weighted(weights)
        .into_iter()
        .filter(|(_, weight)| *weight > 0.0)
        .map(|(field, weight)| {
            Box::new(BoostQuery::new(exactly(field, word), weight)) as Box<dyn Query>
        })
        .collect();
    Box::new(BooleanQuery::union(clauses))
}

fn exactly(field: Field, word: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(
        Term::from_field_text(field, word),
        IndexRecordOption::WithFreqs,
    ))
}

fn similar(fields: &Fields, word: &str) -> Box<dyn Query> {
    let mut clauses = vec![exactly(fields.everything, word)];
    let chars = word.chars().count();
    if chars >= SIMILAR_CHARS_MIN {
        let distance = if chars >= SIMILAR_TWICE_CHARS_MIN {
            2
        } else {
            1
        };
        let term = Term::from_field_text(fields.naming, word);
        clauses.push(Box::new(FuzzyTermQuery::new(term, distance, true)));
    }
    Box::new(BooleanQuery::union(clauses))
}

/// Keeps only the category's products, without letting the category change their scores.
fn filtered(fields: &Fields, query: Box<dyn Query>, category: Option<&str>) -> Box<dyn Query> {
    let Some(category) = category else {
        return query;
    };
    let within = exactly(fields.category_exact, category);
    let within = Box::new(ConstScoreQuery::new(within, 0.0));
    Box::new(BooleanQuery::new(vec![
        (Occur::Must, query),
        (Occur::Must, within),
    ]))
}

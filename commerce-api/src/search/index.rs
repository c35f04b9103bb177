//! The index itself: takes products in, answers searches.
//!
//! Place: one per shop process, shared by every request.
//! Shape: tantivy in memory, one writer behind a lock, one reader that is reloaded after each commit.
//! Invariants: 1. what [`SearchIndex::apply`] returned from is visible to the next search.
//! 2. applying one product twice leaves one document.
//! Not here: when products are read from the store (`super::sync`).

use std::collections::BTreeMap;

use parking_lot::{Mutex, RwLock};
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::agg_result::{AggregationResult, AggregationResults, BucketResult};
use tantivy::aggregation::{AggregationCollector, Key};
use tantivy::collector::sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{Query, TermQuery};
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{
    DocAddress, Index, IndexReader, IndexWriter, Order, ReloadPolicy, Searcher, TantivyDocument,
};
use uuid::Uuid;

use super::query::{any_words, everything, similar_words, words};
use super::request::{Card, FACETS_MAX, FacetCount, Matched, SearchAnswer, SearchRequest, Sort};
use super::schema::{
    self, BRAND_EXACT, CATEGORY_EXACT, CREATED, Fields, ID, NAME, PRICE, RATING, REVIEWS, Weights,
};
use crate::catalog::Product;
use crate::catalog::product::AttributeValue;
use crate::ids::ProductId;

/// Memory the writer may fill before it writes a segment, in bytes.
const WRITER_BYTES: usize = 64 << 20;
/// With fewer hits than this, products that lack some of the words count too.
const ENOUGH_HITS: u64 = 20;
/// Ratings are mixed with this many imagined ones of [`RATING_PRIOR`], so that one rating of 5 does not win.
const RATING_PRIOR_COUNT: f64 = 10.0;
/// The imagined rating.
const RATING_PRIOR: f64 = 3.5;

/// A searchable copy of the catalogue.
pub struct SearchIndex {
    fields: Fields,
    weights: Weights,
    reader: IndexReader,
    writer: Mutex<IndexWriter>,
    /// Of each product that searches can see. A lock of its own, which is never held while the writer works.
    digests: RwLock<BTreeMap<ProductId, Uuid>>,
}

impl SearchIndex {
    /// An empty index with the usual weights.
    ///
    /// # Errors
    /// The search library cannot start its writer.
    pub fn new() -> Result<Self, SearchIndexError> {
        Self::with_weights(Weights::default())
    }

    /// An empty index with other weights, for tuning.
    ///
    /// # Errors
    /// The search library cannot start its writer.
    pub fn with_weights(weights: Weights) -> Result<Self, SearchIndexError> {
        let (schema, fields) = schema::schema();
        let index = Index::create_in_ram(schema);
        schema::register_analyzer(&index);
        let writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()?;
        let digests = RwLock::new(BTreeMap::new());
        Ok(Self {
            fields,
            weights,
            reader,
            writer: Mutex::new(writer),
            digests,
        })
    }

    /// Takes in new and changed products and drops removed ones, then makes all of it visible.
    /// Unchanged products cost a comparison only. Returns how many documents changed.
    ///
    /// # Errors
    /// The search library cannot write; nothing of this call is visible then.
    pub fn apply(
        &self,
        products: &[Product],
        removed: &[ProductId],
    ) -> Result<usize, SearchIndexError> {
        let mut writer = self.writer.lock();
        let mut changes: Vec<(ProductId, Option<Uuid>)> = Vec::new();
        for product in products {
            let digest = product.digest();
            if self.digests.read().get(&product.id) == Some(&digest) {
                continue;
            }
            writer.delete_term(self.fields.id_term(product.id.as_str()));
            writer.add_document(self.document(product))?;
            changes.push((product.id.clone(), Some(digest)));
        }
        for id in removed.iter().filter(|id| self.contains(id)) {
            writer.delete_term(self.fields.id_term(id.as_str()));
            changes.push((id.clone(), None));
        }
        if changes.is_empty() {
            return Ok(0);
        }
        writer.commit()?;
        self.reader.reload()?;
        let changed = changes.len();
        let mut digests = self.digests.write();
        for (id, digest) in changes {
            match digest {
                Some(digest) => digests.insert(id, digest),
                None => digests.remove(&id),
            };
        }
        Ok(changed)
    }

    /// The ids of all products in the index for which `belongs` holds, in order.
    pub fn ids(&self, belongs: impl Fn(&ProductId) -> bool) -> Vec<ProductId> {
        self.digests
            .read()
            .keys()
            .filter(|id| belongs(id))
            .cloned()
            .collect()
    }

    /// The card of a product, if it is in the index.
    ///
    /// # Errors
    /// The search library fails.
    pub fn card_of(&self, id: &ProductId) -> Result<Option<Card>, SearchIndexError> {
        let searcher = self.reader.searcher();
        let query = TermQuery::new(self.fields.id_term(id.as_str()), IndexRecordOption::Basic);
        let found = searcher.search(&query, &TopDocs::with_limit(1).order_by_score())?;
        let address = found.into_iter().next().map(|(_, address)| address);
        address
            .map(|address| self.card(&searcher, address))
            .transpose()
    }

    /// Whether a product is in the index.
    #[must_use]
    pub fn contains(&self, id: &ProductId) -> bool {
        self.digests.read().contains_key(id)
    }

    /// Products in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.read().len()
    }

    /// True when the index holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers one search.
    ///
    /// # Errors
    /// The search library fails; never because of what was searched for.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchIndexError> {
        let searcher = self.reader.searcher();
        let category = request.category.as_deref();
        let words = words(&mut schema::analyzer(), &request.words);
        if words.is_empty() {
            // Words that are all too common or no words at all, such as `?!`, find nothing; a blank finds all.
            if !request.words.trim().is_empty() {
                return Ok(empty(Matched::Words));
            }
            let query = everything(&self.fields, category);
            return self.collect(&searcher, query.as_ref(), request, Matched::Everything);
        }
        let mut answer = None;
        for needed in words_needed(words.len()) {
            let query = any_words(&self.fields, &self.weights, &words, needed, category);
            let found = self.collect(&searcher, query.as_ref(), request, Matched::Words)?;
            let is_enough = found.total >= ENOUGH_HITS;
            answer = Some(found);
            if is_enough {
                break;
            }
        }
        if let Some(answer) = answer.filter(|answer| answer.total > 0) {
            return Ok(answer);
        }
        let query = similar_words(&self.fields, &words, category);
        self.collect(&searcher, query.as_ref(), request, Matched::SimilarSpelling)
    }

    fn document(&self, product: &Product) -> TantivyDocument {
        let fields = &self.fields;
        let mut document = TantivyDocument::new();
        let category = product.category_path.join(" ");
        for naming in [&product.title, &product.brand, &category] {
            document.add_text(fields.naming, naming);
            document.add_text(fields.everything, naming);
        }
        document.add_text(fields.everything, attribute_words(product));
        document.add_text(fields.everything, &product.description);
        document.add_text(fields.id, product.id.as_str());
        if !product.brand.is_empty() {
            document.add_text(fields.brand_exact, &product.brand);
        }
        for category in product.categories() {
            document.add_text(fields.category_exact, category);
        }
        if let Some(price) = product.unit_price() {
            document.add_i64(fields.price, price.amount_minor);
        }
        document.add_f64(fields.rating, smoothed_rating(product));
        document.add_u64(fields.reviews, u64::from(product.review_count));
        document.add_u64(fields.created, product.created_unix_ms);
        document.add_text(fields.name, product.title.to_lowercase());
        let card = serde_json::to_vec(&Card::from(product))
            .expect("a card has text keys and finite numbers only");
        document.add_bytes(fields.card, &card);
        document
    }

    fn collect(
        &self,
        searcher: &Searcher,
        query: &dyn Query,
        request: &SearchRequest,
        matched: Matched,
    ) -> Result<SearchAnswer, SearchIndexError> {
        let facets = AggregationCollector::from_aggs(facet_request()?, Default::default());
        let (total, facets) = searcher.search(query, &(Count, facets))?;
        let addresses = if request.is_within_window() {
            self.top(searcher, query, request)?
        } else {
            Vec::new()
        };
        let hits = addresses
            .into_iter()
            .map(|address| self.card(searcher, address))
            .collect::<Result<Vec<Card>, SearchIndexError>>()?;
        Ok(SearchAnswer {
            total: total as u64,
            hits,
            matched,
            brands: facet_counts(&facets, BRAND_EXACT),
            categories: facet_counts(&facets, CATEGORY_EXACT),
        })
    }

    /// The documents of the page, in order; the id breaks every tie.
    fn top(
        &self,
        searcher: &Searcher,
        query: &dyn Query,
        request: &SearchRequest,
    ) -> Result<Vec<DocAddress>, SearchIndexError> {
        let offset = usize::try_from(request.offset()).unwrap_or(usize::MAX);
        let page = TopDocs::with_limit(request.size as usize).and_offset(offset);
        let by_id = (SortByString::for_field(ID), Order::Asc);
        let has_words = !request.words.trim().is_empty();
        let addresses = match request.sort {
            Sort::Relevance if has_words => {
                let order = ((SortBySimilarityScore, Order::Desc), by_id);
                addresses(searcher.search(query, &page.order_by(order))?)
            }
            Sort::Relevance => {
                let reviews = SortByStaticFastValue::<u64>::for_field(REVIEWS);
                addresses(searcher.search(query, &page.order_by(((reviews, Order::Desc), by_id)))?)
            }
            Sort::PriceAsc | Sort::PriceDesc => {
                let price = SortByStaticFastValue::<i64>::for_field(PRICE);
                let order = if request.sort == Sort::PriceAsc {
                    Order::Asc
                } else {
                    Order::Desc
                };
                addresses(searcher.search(query, &page.order_by(((price, order), by_id)))?)
            }
            Sort::Rating => {
                let rating = SortByStaticFastValue::<f64>::for_field(RATING);
                addresses(searcher.search(query, &page.order_by(((rating, Order::Desc), by_id)))?)
            }
            Sort::Newest => {
                let created = SortByStaticFastValue::<u64>::for_field(CREATED);
                addresses(searcher.search(query, &page.order_by(((created, Order::Desc), by_id)))?)
            }
            Sort::Name => {
                let name = SortByString::for_field(NAME);
                addresses(searcher.search(query, &page.order_by(((name, Order::Asc), by_id)))?)
            }
        };
        Ok(addresses)
    }

    fn card(&self, searcher: &Searcher, address: DocAddress) -> Result<Card, SearchIndexError> {
        let document: TantivyDocument = searcher.doc(address)?;
        let bytes = document
            .get_first(self.fields.card)
            .and_then(|value| value.as_bytes())
            .ok_or(SearchIndexError::NoCard)?;
        serde_json::from_slice(bytes).map_err(|_| SearchIndexError::NoCard)
    }
}

/// How many of `count` words a product has to hold: all; and if that finds too little, half. A product that holds one
/// word of six is hardly what was meant.
fn words_needed(count: usize) -> impl Iterator<Item = usize> {
    let half = count.div_ceil(2);
    [count, half]
        .into_iter()
        .take(if half == count { 1 } else { 2 })
}

fn addresses<K>(ranked: Vec<(K, DocAddress)>) -> Vec<DocAddress> {
    ranked.into_iter().map(|(_, address)| address).collect()
}

fn empty(matched: Matched) -> SearchAnswer {
    SearchAnswer {
        total: 0,
        hits: Vec::new(),
        matched,
        brands: Vec::new(),
        categories: Vec::new(),
    }
}

/// The words of attributes and highlights. Names of attributes are the same on thousands of products and say
/// little, and so do numbers alone: only texts count.
fn attribute_words(product: &Product) -> String {
    let mut text = product.highlights.join(" ");
    for value in product.attributes.values() {
        match value {
            AttributeValue::Text(words) => {
                text.push(' ');
                text.push_str(words);
            }
            AttributeValue::List(list) => {
                for words in list {
                    text.push(' ');
                    text.push_str(words);
                }
            }
            AttributeValue::Flag(_) | AttributeValue::Whole(_) | AttributeValue::Number(_) => {}
        }
    }
    text
}

fn smoothed_rating(product: &Product) -> f64 {
    let count = f64::from(product.review_count);
    let sum = product.rating.unwrap_or(0.0) * count;
    (sum + RATING_PRIOR * RATING_PRIOR_COUNT) / (count + RATING_PRIOR_COUNT)
}

fn facet_request() -> Result<Aggregations, SearchIndexError> {
    let terms =
        |field: &str| serde_json::json!({ "terms": { "field": field, "size": FACETS_MAX } });
    let request = serde_json::json!({
        BRAND_EXACT: terms(BRAND_EXACT),
        CATEGORY_EXACT: terms(CATEGORY_EXACT),
    });
    serde_json::from_value(request).map_err(|_| SearchIndexError::Facets)
}

fn facet_counts(results: &AggregationResults, field: &str) -> Vec<FacetCount> {
    let Some(AggregationResult::BucketResult(BucketResult::Terms { buckets, .. })) =
        results.0.get(field)
    else {
        return Vec::new();
    };
    let mut counts: Vec<FacetCount> = buckets
        .iter()
        .filter_map(|bucket| match &bucket.key {
            Key::Str(value) => Some(FacetCount {
                value: value.clone(),
                count: bucket.doc_count,
            }),
            _ => None,
        })
        .collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    counts
}

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SearchIndexError {
    /// What: the search library failed. Mend: restart the shop; the index is rebuilt from the catalogue.
    #[error("the search index failed; restart the shop to rebuild it")]
    Library(#[from] tantivy::TantivyError),
    /// What: a document lost its stored card, which this module always writes.
    #[error("the search index holds a document without its card; restart the shop to rebuild it")]
    NoCard,
    /// What: the thread that writes the index stopped. Mend: restart the shop; the index is rebuilt.
    #[error("the search index stopped; restart the shop to rebuild it")]
    Stopped,
    /// What: the search library no longer understands our facet request.
    #[error("the search library refuses the facet request; report this")]
    Facets,
}

#[cfg(test)]
#[path = "index_test.rs"]
mod tests;

//! Products: search, page, neighbours, stock.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::catalog::Product;
use crate::catalog::product::AttributeValue;
use crate::http::extract::{ApiPath, ApiQuery};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::state::ShopState;
use crate::ids::ProductId;
use crate::recommend::Source;
use crate::search::request::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, QUERY_CHARS_MAX};
use crate::search::{Card, FacetCount, Matched, SearchRequest, Sort};

/// The longest category filter, in characters.
const CATEGORY_FILTER_CHARS_MAX: usize = 1_000;

/// The last page that may be asked for.
const PAGE_MAX: u32 = 1_000_000;

/// What to search for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words; blank lists everything.
    #[param(max_length = 256)]
    q: Option<String>,
    /// Only this category and those below it, as the answer's `facets.categories` write it: `Makeup/Eye`.
    #[param(max_length = 1000)]
    category: Option<String>,
    /// The order of the hits; `relevance` when left out.
    #[param(inline, value_type = Option<Sort>)]
    sort: Option<String>,
    /// The page, from 1. Beyond the 10,000th hit pages are empty: narrow the search instead.
    #[param(minimum = 1, maximum = 1000000)]
    page: Option<u32>,
    /// Hits on a page; 20 when left out.
    #[param(minimum = 1, maximum = 100)]
    size: Option<u32>,
}

impl SearchQuery {
    fn into_request(self) -> Result<SearchRequest, Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
        let words = self.q.unwrap_or_default();
        if words.chars().count() > QUERY_CHARS_MAX {
            return Err(bad(format!(
                "`q` is longer than {QUERY_CHARS_MAX} characters"
            )));
        }
        let category = self.category.filter(|category| !category.is_empty());
        if category
            .as_ref()
            .is_some_and(|text| text.chars().count() > CATEGORY_FILTER_CHARS_MAX)
        {
            return Err(bad(format!(
                "`category` is longer than {CATEGORY_FILTER_CHARS_MAX} characters"
            )));
        }
        let sort: Sort = match self.sort {
            None => Sort::default(),
            Some(name) => name
                .parse()
                .map_err(|error| bad(format!("`sort`: {error}")))?,
        };
        let page = self.page.unwrap_or(1);
        let size = self.size.unwrap_or(PAGE_SIZE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&page) {
            return Err(bad(format!("`page` has to lie between 1 and {PAGE_MAX}")));
        }
        if !(1..=PAGE_SIZE_MAX).contains(&size) {
            return Err(bad(format!(
                "`size` has to lie between 1 and {PAGE_SIZE_MAX}"
            )));
        }
        Ok(SearchRequest {
            words,
            category,
            sort,
            page,
            size,
        })
    }
}

/// A page of hits.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SearchResults {
    /// Hits on all pages.
    total: u64,
    /// This page, from 1.
    page: u32,
    /// Most hits on a page.
    size: u32,
    /// How the words were matched.
    matched: Matched,
    /// The hits.
    items: Vec<Card>,
    /// What the hits on all pages have in common.
    facets: Facets,
}

/// Counts over all hits, at most 20 values each, most first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Facets {
    /// By brand.
    brands: Vec<FacetCount>,
    /// By category, on every level.
    categories: Vec<FacetCount>,
}

/// Finds products by words, browses categories.
#[utoipa::path(
    get,
    path = "/api/v1/products/search",
    operation_id = "searchProducts",
    tag = "catalog",
    params(SearchQuery),
    responses((status = 200, body = SearchResults))
)]
pub(crate) async fn search(
    State(shop): State<Arc<ShopState>>,
    ApiQuery(query): ApiQuery<SearchQuery>,
) -> Result<Json<SearchResults>, Problem> {
    let request = query.into_request()?;
    let (page, size) = (request.page, request.size);
    let index = Arc::clone(&shop.index);
    // Searching is work, not waiting: it leaves the threads that serve the network.
    let answer = tokio::task::spawn_blocking(move || index.search(&request)).await;
    let answer =
        answer.map_err(|_| Problem::new(ProblemKind::Internal, "the search broke off"))??;
    Ok(Json(SearchResults {
        total: answer.total,
        page,
        size,
        matched: answer.matched,
        items: answer.hits,
        facets: Facets {
            brands: answer.brands,
            categories: answer.categories,
        },
    }))
}

/// A product page.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProductView {
    /// The product, which is also its SKU.
    pub(crate) id: String,
    /// Its title.
    title: String,
    /// Its brand; empty when the catalogue names none.
    brand: String,
    /// From the widest category to the narrowest.
    category_path: Vec<String>,
    /// The usual price in minor units; `null` when it is not sold.
    price_minor: Option<i64>,
    /// The reduced price in minor units, if there is one.
    sale_price_minor: Option<i64>,
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3)]
    currency: String,
    /// What it is.
    description: String,
    /// Selling points.
    highlights: Vec<String>,
    /// Everything else, by name.
    attributes: BTreeMap<String, AttributeValue>,
    /// Mean rating, 0 to 5.
    rating: Option<f64>,
    /// Ratings behind the mean.
    review_count: u32,
    /// When it was first stored, in Unix milliseconds.
    created_unix_ms: u64,
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        Self {
            id: product.id.into(),
            title: product.title,
            brand: product.brand,
            category_path: product.category_path,
            price_minor: product.price_minor,
            sale_price_minor: product.sale_price_minor,
            currency: product.currency.code().to_owned(),
            description: product.description,
            highlights: product.highlights,
            attributes: product.attributes,
            rating: product.rating,
            review_count: product.review_count,
            created_unix_ms: product.created_unix_ms,
        }
    }
}

/// The entity tag of a product: equal for equal contents.
pub(crate) fn entity_tag(product: &Product) -> String {
    format!("\"{}\"", product.digest().simple())
}

/// A product, with its entity tag.
pub(crate) fn with_entity_tag(status: StatusCode, product: Product) -> Response {
    let tag = entity_tag(&product);
    let mut response = (status, Json(ProductView::from(product))).into_response();
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

/// One product.
#[utoipa::path(
    get,
    path = "/api/v1/products/{product_id}",
    operation_id = "getProduct",
    tag = "catalog",
    params(
        ("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("If-None-Match" = Option<String>, Header, description = "The entity tag you have.")
    ),
    responses(
        (status = 200, body = ProductView, headers(("ETag" = String, description = "For `If-Match`."))),
        (status = 304, description = "You have it already."),
        (status = 404, description = "There is no such product.")
    )
)]
pub(crate) async fn product(
    State(shop): State<Arc<ShopState>>,
    ApiPath(id): ApiPath<ProductId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let product = found(&shop, &id).await?;
    let tag = entity_tag(&product);
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        let tag = HeaderValue::from_str(&tag).map(|value| [(ETAG, value)]);
        return Ok((
            StatusCode::NOT_MODIFIED,
            tag.unwrap_or([(ETAG, HeaderValue::from_static(""))]),
        )
            .into_response());
    }
    Ok(with_entity_tag(StatusCode::OK, product))
}

/// What is bought together with a product.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AlsoBought {
    /// Where the list comes from.
    source: Source,
    /// The products, best first.
    items: Vec<Card>,
}

/// What customers who bought this also bought.
#[utoipa::path(
    get,
    path = "/api/v1/products/{product_id}/also-bought",
    operation_id = "alsoBought",
    tag = "catalog",
    params(("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 200, body = AlsoBought),
        (status = 404, description = "There is no such product.")
    )
)]
pub(crate) async fn also_bought(
    State(shop): State<Arc<ShopState>>,
    ApiPath(id): ApiPath<ProductId>,
) -> Result<Json<AlsoBought>, Problem> {
    found(&shop, &id).await?;
    let (source, ids) = shop.recommendations.also_bought(&id).await?;
    let products = shop.catalog.get_many(&ids).await?;
    let items = products.iter().flatten().map(Card::from).collect();
    Ok(Json(AlsoBought { source, items }))
}

/// Units of a product in the fulfilment centre.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct StockView {
    /// The product.
    sku: String,
    /// The fulfilment centre.
    centre: String,
    /// Everything that lies there.
    on_hand: u64,
    /// Free for sale.
    available: u64,
    /// Held for checkouts.
    reserved: u64,
    /// Bound to orders that have not left.
    allocated: u64,
    /// Not fit for sale.
    damaged: u64,
}

impl StockView {
    /// The counts of `sku`; nothing on hand when nothing was ever received.
    pub(crate) fn new(sku: &ProductId, counts: Option<souk_inventory::StockCounts>) -> Self {
        let counts = counts.unwrap_or_default();
        Self {
            sku: sku.to_string(),
            centre: crate::stock::CENTRE.to_owned(),
            on_hand: counts.on_hand(),
            available: counts.available,
            reserved: counts.reserved,
            allocated: counts.allocated,
            damaged: counts.damaged,
        }
    }
}

/// How many units of a product there are.
#[utoipa::path(
    get,
    path = "/api/v1/products/{product_id}/stock",
    operation_id = "getStock",
    tag = "catalog",
    params(("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 200, body = StockView),
        (status = 404, description = "There is no such product.")
    )
)]
pub(crate) async fn stock(
    State(shop): State<Arc<ShopState>>,
    ApiPath(id): ApiPath<ProductId>,
) -> Result<Json<StockView>, Problem> {
    found(&shop, &id).await?;
    Ok(Json(StockView::new(&id, shop.stocks.counts(&id).await?)))
}

/// The product, or the problem that there is none.
pub(crate) async fn found(shop: &ShopState, id: &ProductId) -> Result<Product, Problem> {
    let stored = shop.catalog.get(id).await?;
    stored.map(|stored| stored.product).ok_or_else(|| {
        Problem::new(ProblemKind::NotFound, format!("there is no product `{id}`"))
            .with_code("product_not_found")
    })
}

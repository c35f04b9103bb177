//! The OpenAPI document: made from the handlers' annotations, completed with what is true of every call.
//!
//! Source: OpenAPI 3.1.
//! Shape: each error status gets the problem body; every operation gets the statuses that any call may meet.
//! Invariants: 1. every error in the document has the content type `application/problem+json`.

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Components, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, PathItem, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::problem::ProblemBody;

const PROBLEM: &str = "application/problem+json";

/// Completes the document that the router collected.
#[must_use]
pub fn completed(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Souk shop")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Catalogue, search, carts, checkout and orders over a replicated key-value store. \
             Errors are RFC 9457 problems. Bodies are read up to 256 KiB. \
             Fields and parameters that are not listed here are refused.",
        ))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    components
        .schemas
        .insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("admin", SecurityScheme::Http(scheme));
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            complete(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn complete(operation: &mut Operation) {
    let mut common = BTreeMap::from([
        ("400", "The request is malformed."),
        ("500", "The shop made a mistake."),
        (
            "503",
            "The shop or the store is busy or unreachable; try again after `Retry-After`.",
        ),
    ]);
    if operation.request_body.is_some() {
        common.insert("413", "The body is too large.");
        common.insert("415", "The body is not JSON.");
        common.insert("422", "The content is not acceptable.");
        common.insert(
            "504",
            "The change may or may not have been made; look, or send it again.",
        );
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            without_null(parameter);
        }
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in common {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
    }
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
        {
            with_problem(response);
        }
    }
}

/// A parameter may be left out, but there is no way to send `null` in a path, a query or a header.
fn without_null(parameter: &mut Parameter) {
    if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &object.schema_type
        && let [only] = types
            .iter()
            .filter(|kind| **kind != Type::Null)
            .collect::<Vec<_>>()[..]
    {
        object.schema_type = SchemaType::Type(only.clone());
    }
}

fn with_problem(response: &mut Response) {
    let schema = RefOr::Ref(Ref::from_schema_name(ProblemBody::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    response.content.clear();
    response
        .content
        .insert(PROBLEM.to_owned(), RefOr::T(content));
}

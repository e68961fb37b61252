//! The door's description for programs (`/openapi.json`), and a page that shows it to people (`/docs`).

use axum::Json;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{datasets, problem, records, sql, status};

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidemark", description = "One SQL answer from batch and speed layer, with the positions of the log that it covers."),
    paths(
        sql::sql,
        records::append,
        records::seal,
        datasets::list,
        datasets::show,
        status::status,
        status::healthz,
        status::readyz,
        status::metrics,
    ),
    components(schemas(problem::Problem)),
    modifiers(&Bearer),
    security(("token" = []), ())
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(super) async fn json() -> impl IntoResponse {
    Json(document())
}

/// The page fetches the document itself; nothing comes from another host.
pub(super) async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("docs.html")))
}

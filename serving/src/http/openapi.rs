//! The door's description for programs (`/openapi.json`), and a page that shows it to people (`/docs`).

use axum::Json;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

use super::{auth, datasets, problem, records, seal, sql, status};

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidemark", description = "One SQL answer from batch and speed layer, with the positions of the log that it covers."),
    paths(
        sql::sql,
        records::append,
        seal::seal,
        datasets::list,
        datasets::show,
        status::status,
        status::healthz,
        status::readyz,
        status::metrics,
    ),
    components(schemas(problem::Problem)),
    modifiers(&Bearer, &Problems),
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

/// Says of every route, once, what is the same in all of them: what is refused is refused by a problem document, and who may
/// not come in is told so wherever somebody watches the door.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                if !auth::OPEN.contains(&path.as_str()) {
                    for (status, description) in [("401", "No token"), ("403", "Not allowed here")] {
                        responses.insert(status.to_owned(), RefOr::T(Response::new(description)));
                    }
                }
                for (_, response) in responses.iter_mut().filter(|(status, _)| !status.starts_with('2')) {
                    if let RefOr::T(response) = response {
                        let content = Content::new(Some(Ref::from_schema_name("Problem")));
                        response.content.insert(problem::PROBLEM.to_owned(), RefOr::T(content));
                    }
                }
            }
        }
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

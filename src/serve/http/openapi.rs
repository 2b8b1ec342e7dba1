//! `/openapi.json`: what can be called, from the list of routes.

use super::{ROUTES, Route};
use axum::Json;
use serde_json::{Map, Value, json};

/// The description.
pub async fn description() -> Json<Value> {
    Json(document())
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.into(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "retally", "version": env!("CARGO_PKG_VERSION"), "description": "Event metrics that stay right"},
        "paths": paths,
        "components": {
            "schemas": {"Error": {
                "type": "object",
                "properties": {"error": {
                    "type": "object",
                    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"}},
                    "required": ["code", "message"],
                }},
                "required": ["error"],
            }},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let text = json!({"type": "string"});
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}));
    let in_what = |name: &str| if name.starts_with(|first: char| first.is_ascii_uppercase()) { "header" } else { "query" };
    let named = |(name, about): &(&str, &str)| json!({"name": name, "in": in_what(name), "description": about, "schema": text});
    let content = |kinds: &[&str]| kinds.iter().map(|kind| (kind.to_string(), json!({}))).collect::<Map<_, _>>();
    let mut operation = json!({
        "summary": route.about,
        "parameters": in_path.chain(route.parameters.iter().map(named)).collect::<Vec<_>>(),
        "responses": {
            "200": {"description": "as asked", "content": content(route.gives)},
            "default": {"description": "an error", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}},
        },
        "security": [{"token": []}, {}],
    });
    if let (false, Some(operation)) = (route.takes.is_empty(), operation.as_object_mut()) {
        operation.insert("requestBody".into(), json!({"required": true, "content": content(route.takes)}));
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_described_once() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, ROUTES.len());
        let of = &paths["/v1/{dataflow}/tables/{table}"]["get"]["parameters"];
        let names: Vec<&str> = of.as_array().unwrap().iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names[..2], ["dataflow", "table"]);
        let of_batches = paths["/v1/{dataflow}/{input}"]["post"]["parameters"].as_array().unwrap();
        let place = |name: &str| of_batches.iter().find(|parameter| parameter["name"] == name).map(|parameter| parameter["in"].clone());
        assert_eq!((place("wait"), place("Idempotency-Key")), (Some("query".into()), Some("header".into())));
        assert!(paths["/v1/{dataflow}/{input}"]["post"]["requestBody"]["content"]["text/csv"].is_object());
    }
}

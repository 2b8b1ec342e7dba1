//! `/v1/dataflows`: what is served: inputs, tables, charts and settings.

use super::Shared;
use crate::serve::served::Served;
use axum::Json;
use axum::extract::State;
use retally_core::contract::{Input, InputKind, Table};
use retally_core::points::Measurement;
use serde_json::{Value, json};

/// `/v1/dataflows`
pub async fn list(State(service): Shared) -> Json<Value> {
    Json(json!({"dataflows": service.dataflows.iter().map(about).collect::<Vec<_>>()}))
}

fn about(served: &Served) -> Value {
    let (definition, graph) = (&served.job.definition, &served.job.graph);
    let charts: Vec<Value> =
        served.charts().iter().map(|chart| json!({"name": chart.name, "title": chart.title, "y_label": chart.y_label})).collect();
    json!({
        "name": served.name(),
        "about": definition.about,
        "inputs": definition.inputs.iter().map(input).collect::<Vec<_>>(),
        "tables": served.tables.iter().map(table).collect::<Vec<_>>(),
        "charts": charts,
        "points": graph.measurements().iter().map(points).collect::<Vec<_>>(),
        "settings": served.settings(),
        "timezone": graph.calendar().name(),
    })
}

fn input(input: &Input) -> Value {
    let fields: Vec<Value> = input.fields.iter().map(|field| field.name.into()).collect();
    json!({"name": input.name, "about": input.about, "fields": fields, "datasets": matches!(input.kind, InputKind::Datasets(_))})
}

fn table(table: &Table) -> Value {
    json!({"name": table.name, "about": table.about})
}

fn points(measurement: &Measurement) -> Value {
    let tags: Vec<&str> = measurement.tags.iter().map(|tag| tag.name).collect();
    let fields: Vec<&str> = measurement.fields.iter().map(|field| field.name).collect();
    json!({"name": measurement.name, "about": measurement.about, "tags": tags, "fields": fields})
}

//! The Model Context Protocol: tools with which other programs' models ask this one, over HTTP at `/mcp` and over standard
//! input and output.
//!
//! Each connection has a session of its own, whose edits nobody else sees. The tools are few and their descriptions short,
//! since a client reads all of them with every request.

use std::sync::Arc;

use larql_lql::output::Output;
use larql_lql::render::{Format, RenderOptions, render};
use rmcp::ServiceExt;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ServerCapabilities, ServerConfig,
    Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::larql::{Asked, run_statements};
use crate::server::ServeError;
use crate::state::{App, SessionName};

/// Rows of a listing without LIMIT: answers are read by models, whose context is short.
const ROWS: usize = 20;

/// Advice for users of the tools.
const INSTRUCTIONS: &str = "Tools that ask a language model what it knows and why. An edge is entity, relation, target. \
    Start with describe; query takes any statement of LQL. Edits last as long as this connection.";

/// A connection.
#[derive(Clone)]
pub(crate) struct Connection {
    app: App,
    /// Name of its session.
    session: String,
}

/// Returns the service that answers at `/mcp`.
pub(crate) fn http_service(app: App) -> StreamableHttpService<Connection, LocalSessionManager> {
    // Hosts and origins are checked for all routes alike.
    let config = StreamableHttpServerConfig::default().disable_allowed_hosts();
    let connection = move || Ok(Connection::new(App::clone(&app)));
    StreamableHttpService::new(connection, Arc::new(LocalSessionManager::default()), config)
}

/// Answers on standard input and output until the input ends.
///
/// # Errors
/// If the client speaks another protocol, or the input cannot be read.
pub(crate) async fn serve_stdio(app: App) -> Result<(), ServeError> {
    let failed = |error: String| ServeError::System(std::io::Error::other(error));
    let running = Connection::new(app)
        .serve(rmcp::transport::stdio())
        .await
        .map_err(|error| failed(error.to_string()))?;
    running.waiting().await.map_err(|error| failed(error.to_string()))?;
    Ok(())
}

impl Connection {
    fn new(app: App) -> Connection {
        let session = app.new_id("mcp");
        Connection { app, session }
    }

    /// Runs the statement that a tool stands for.
    async fn call(&self, tool: &str, arguments: &JsonObject) -> Result<Vec<Output>, ApiError> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let required = |name: &str| {
            let missing = || ApiError::field(name, format!("{tool} needs {name}, a text"));
            text(name).filter(|text| !text.trim().is_empty()).map(|text| quoted(&text)).ok_or_else(missing)
        };
        let number = |name: &str| arguments.get(name).and_then(Value::as_u64);
        let statement = match tool {
            "query" => text("statement")
                .ok_or_else(|| ApiError::field("statement", "query needs a statement of LQL"))?,
            "describe" => {
                format!("DESCRIBE {} VERBOSE LIMIT {};", required("entity")?, number("limit").unwrap_or(20))
            }
            "infer" => format!("INFER {} TOP {};", required("prompt")?, number("top").unwrap_or(5)),
            "explain" => {
                let answer =
                    text("answer").map(|answer| format!(" FOR {}", quoted(&answer))).unwrap_or_default();
                format!("EXPLAIN INFER {} TOP 3{answer};", required("prompt")?)
            }
            "edit" => match text("action").as_deref() {
                Some("insert") => format!(
                    "INSERT INTO EDGES (entity, relation, target) VALUES ({}, {}, {});",
                    required("entity")?,
                    required("relation")?,
                    required("target")?
                ),
                Some("delete") => format!(
                    "DELETE FROM EDGES WHERE entity = {} AND relation = {};",
                    required("entity")?,
                    required("relation")?
                ),
                Some("undo") => "UNDO;".to_owned(),
                other => {
                    let message =
                        format!("action is {}; expected insert, delete or undo", other.unwrap_or("missing"));
                    return Err(ApiError::field("action", message));
                }
            },
            other => return Err(ApiError::invalid(format!("there is no tool named {other:?}"))),
        };
        let asked = Asked { model: text("model"), session: SessionName::named(&self.session) };
        run_statements(&self.app, &asked, &statement, Some(ROWS)).await
    }

    /// The tools that this server has.
    fn tools(&self) -> Vec<Tool> {
        let several = self.app.models.iter().count() > 1;
        let text = |about: &str| json!({"type": "string", "description": about});
        let tool =
            |name: &'static str, about: &'static str, mut fields: Value, required: &[&str], reads: bool| {
                if several {
                    fields["model"] = text("name of the model; the first one if absent");
                }
                let schema = json!({"type": "object", "properties": fields, "required": required});
                let schema = schema.as_object().cloned().unwrap_or_default();
                Tool::new(name, about, schema).with_annotations(ToolAnnotations::from_raw(
                    None,
                    Some(reads),
                    None,
                    None,
                    Some(false),
                ))
            };
        let mut tools = vec![
            tool(
                "query",
                "Run a statement of LQL, such as SELECT entity, target FROM EDGES WHERE relation = \"capital\" LIMIT 5; \
                 SHOW RELATIONS; WALK \"text\"; STATS;",
                json!({"statement": text("the statement")}),
                &["statement"],
                false,
            ),
            tool(
                "describe",
                "List what the model associates with an entity: relation, target, confidence, layers.",
                json!({"entity": text("a name, such as France"), "limit": {"type": "integer", "minimum": 1}}),
                &["entity"],
                true,
            ),
        ];
        if self.app.options.infer {
            tools.push(tool(
                "infer",
                "Predict the next token after a prompt, with probabilities.",
                json!({"prompt": text("text to continue"), "top": {"type": "integer", "minimum": 1}}),
                &["prompt"],
                true,
            ));
            tools.push(tool(
                "explain",
                "Show which features of each layer push an answer, and what the model would say after each layer.",
                json!({"prompt": text("text to continue"), "answer": text("the answer to explain; the likeliest if absent")}),
                &["prompt"],
                true,
            ));
        }
        if self.app.options.edit {
            tools.push(tool(
                "edit",
                "Insert or delete an edge for this connection, or undo the last edit. Nothing is saved.",
                json!({
                    "action": {"enum": ["insert", "delete", "undo"]},
                    "entity": text("whom the edge is about"),
                    "relation": text("what it says, such as capital"),
                    "target": text("the other end, to insert"),
                }),
                &["action"],
                false,
            ));
        }
        tools
    }
}

/// Returns a text as LQL spells it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn shown(outputs: &[Output]) -> String {
    let options = RenderOptions::default();
    outputs.iter().map(|output| render(output, Format::Table, &options)).collect::<Vec<_>>().join("\n")
}

impl ServerHandler for Connection {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        let mut config = ServerConfig::new(capabilities);
        config.server_info = Implementation::new("larql", env!("CARGO_PKG_VERSION"));
        config.instructions = Some(INSTRUCTIONS.to_owned());
        config
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let result = match self.call(&request.name, &request.arguments.unwrap_or_default()).await {
            Ok(outputs) => CallToolResult::success(vec![ContentBlock::text(shown(&outputs))]),
            // The model that called reads it and can do better.
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error.message)]),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, rmcp::ErrorData> {
        let resource = |name: &String| {
            let resource = Resource::new(format!("larql://{name}"), name.clone());
            resource.with_description("Figures and relations of a model").with_mime_type("text/plain")
        };
        Ok(ListResourcesResult::with_all_items(
            self.app.models.iter().map(|model| resource(&model.name)).collect(),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, rmcp::ErrorData> {
        let unknown = |message: String| rmcp::ErrorData::resource_not_found(message, None);
        let name = request
            .uri
            .strip_prefix("larql://")
            .ok_or_else(|| unknown(format!("{} is not of this server", request.uri)))?;
        let asked = Asked { model: Some(name.to_owned()), session: SessionName::named(&self.session) };
        let outputs = run_statements(&self.app, &asked, "STATS; SHOW RELATIONS BRIEF;", Some(ROWS)).await;
        let text = shown(&outputs.map_err(|error| unknown(error.message))?);
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted() {
        for text in ["France", "a \"b\"", "back\\slash", "\\\""] {
            let statement = format!("DESCRIBE {};", quoted(text));
            let parsed = larql_lql::parse_statement(statement.trim_end_matches(';')).unwrap();
            let larql_lql::ast::Statement::Describe(describe) = parsed else { panic!("{statement}") };
            assert_eq!(describe.entity.text().unwrap().value, text);
        }
    }
}

//! What is done for each message of a connection.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Sink, SinkExt as _, StreamExt as _, stream};
use millstream_core::millis;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::{QueryParser as _, StoredStatement};
use pgwire::api::store::{Entry, MemPortalStore, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Execute, Parse, ParseComplete, PortalSuspended, Sync as SyncMessage,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::types::format::FormatOptions;

use crate::command::Command;
use crate::error::{
    FAILED_TRANSACTION, INTERNAL, INVALID_VALUE, NO_TRANSACTION, NOT_SUPPORTED, PROTOCOL, TOO_MUCH, UNDEFINED_CURSOR,
    UNDEFINED_SETTING, error,
};
use crate::functions::default_of;
use crate::limits::PREPARED;
use crate::message::LONG;
use crate::prepared::{Prepared, Reader, with_values};
use crate::run::{self, Valued};
use crate::session::Connection;

/// Answers one connection.
pub(crate) struct Handler {
    connection: Arc<Connection>,
    reader: Arc<Reader>,
}

type Store = MemPortalStore<Prepared>;

/// What a command needs of the client.
struct Client<'a> {
    store: &'a Store,
    status: TransactionStatus,
    options: Arc<FormatOptions>,
}

impl Handler {
    pub(crate) fn new(connection: &Arc<Connection>, reader: Reader) -> Handler {
        Handler { connection: Arc::clone(connection), reader: Arc::new(reader) }
    }

    /// Does what a statement asks. `plan` is that of a query or a cursor, with its values.
    async fn answer(
        &self,
        client: &Client<'_>,
        prepared: &Prepared,
        plan: Option<Valued>,
        format: &Format,
    ) -> PgWireResult<Response> {
        let connection = &self.connection;
        let done = |tag: &str| Ok(Response::Execution(Tag::new(tag)));
        let ends = matches!(prepared.command, Command::Commit | Command::Rollback);
        if client.status == TransactionStatus::Error && !ends {
            let text = "current transaction is aborted, commands ignored until end of transaction block: ROLLBACK";
            return Err(error(FAILED_TRANSACTION, text));
        }
        match &prepared.command {
            Command::Query => {
                let plan = plan.ok_or_else(|| error(INTERNAL, "a query has no plan: that is a bug"))?;
                let batch = connection.batch()?;
                let fields = Arc::new(run::fields(plan.plan(), format, Some(Arc::clone(&client.options)))?);
                Ok(Response::Query(match run::look_up(connection, &plan, &batch, &fields) {
                    Some(rows) => {
                        run::let_go(connection, batch);
                        rows
                    }
                    None => run::run(connection, plan, batch, fields)?,
                }))
            }
            Command::Begin => {
                connection.begin();
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Command::Commit | Command::Rollback => {
                Self::close(client.store, &connection.end());
                let failed = client.status == TransactionStatus::Error;
                let tag = if failed || prepared.command == Command::Rollback { "ROLLBACK" } else { "COMMIT" };
                Ok(Response::TransactionEnd(Tag::new(tag)))
            }
            Command::Nothing(tag) => done(tag),
            Command::Set { name, value } => {
                self.set(name, value.as_deref())?;
                done(if value.is_some() { "SET" } else { "RESET" })
            }
            Command::ResetAll => {
                connection.reset_all();
                done("RESET")
            }
            Command::Show(name) => self.show(name),
            Command::Deallocate(name) => {
                match name {
                    Some(name) => {
                        client.store.rm_statement(name);
                        connection.unprepared(name);
                    }
                    None => connection.all_prepared().iter().for_each(|name| client.store.rm_statement(name)),
                }
                done(if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" })
            }
            Command::Discard => {
                connection.all_prepared().iter().for_each(|name| client.store.rm_statement(name));
                Self::close(client.store, &connection.closed(None));
                connection.reset_all();
                done("DISCARD ALL")
            }
            Command::Declare { name, .. } => self.declare(client, name, prepared, plan).await,
            Command::Fetch { name, rows } => self.fetch(client, name, *rows).await,
            Command::Close(name) => {
                let closed = connection.closed(name.as_deref());
                if let (Some(name), true) = (name, closed.is_empty()) {
                    return Err(no_cursor(name));
                }
                Self::close(client.store, &closed);
                done("CLOSE CURSOR")
            }
            Command::Refused(code, text) => Err(error(code, text.clone())),
        }
    }

    fn close(store: &Store, cursors: &[String]) {
        cursors.iter().for_each(|cursor| store.rm_portal(cursor));
    }

    /// Opens a cursor: a portal, as those that clients bind themselves, so that they may ask about its columns.
    async fn declare(
        &self,
        client: &Client<'_>,
        name: &str,
        prepared: &Prepared,
        plan: Option<Valued>,
    ) -> PgWireResult<Response> {
        if !self.connection.is_in_transaction() {
            return Err(error(NO_TRANSACTION, "DECLARE CURSOR can only be used in transaction blocks: BEGIN first"));
        }
        let plan = plan.ok_or_else(|| error(INTERNAL, "a cursor has no plan: that is a bug"))?;
        let fields = Arc::new(run::fields(plan.plan(), &Format::UnifiedText, Some(Arc::clone(&client.options)))?);
        if self.connection.opened(name, &fields) > PREPARED {
            self.connection.closed(Some(name));
            return Err(error(TOO_MUCH, format!("more than {PREPARED} cursors are open: CLOSE some")));
        }
        let kept = Prepared {
            command: Command::Nothing("FETCH"),
            plan: prepared.plan.clone(),
            fields: Some(Arc::clone(&fields)),
        };
        let rows = run::run(&self.connection, plan, self.connection.batch()?, fields)?;
        let portal =
            Portal::new_cursor(name.to_owned(), Arc::new(StoredStatement::new(name.to_owned(), kept, Vec::new())));
        portal.start(rows).await;
        client.store.put_portal(Arc::new(portal));
        Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
    }

    async fn fetch(&self, client: &Client<'_>, name: &str, rows: Option<usize>) -> PgWireResult<Response> {
        let Some(fields) = self.connection.cursor(name) else { return Err(no_cursor(name)) };
        let portal = client.store.get_portal(name).and_then(|entry| entry.value().cloned());
        let portal = portal.ok_or_else(|| no_cursor(name))?;
        let state = portal.state();
        let most = rows.unwrap_or(usize::MAX);
        let rows = stream::unfold((state, most), |(state, most)| async move {
            if most == 0 {
                return None;
            }
            let row = match &mut *state.lock().await {
                PortalExecutionState::Suspended(rows) => rows.data_rows().next().await,
                _ => None,
            };
            row.map(|row| (row, (state, most - 1)))
        });
        let mut response = QueryResponse::new(fields, rows);
        response.set_command_tag("FETCH");
        Ok(Response::Query(response))
    }

    fn set(&self, name: &str, value: Option<&str>) -> PgWireResult<()> {
        let connection = &self.connection;
        match (name, value) {
            ("statement_timeout", _) => {
                let wrong = || error(INVALID_VALUE, "statement_timeout is milliseconds, or a number with ms, s or min");
                let asked = value.map(|value| duration(value).ok_or_else(wrong)).transpose()?;
                connection.set_timeout(asked);
            }
            ("client_encoding", Some(value)) if !value.replace('-', "").eq_ignore_ascii_case("utf8") => {
                return Err(error(NOT_SUPPORTED, format!("the encoding here is UTF8, and not {value}")));
            }
            ("transaction_read_only" | "default_transaction_read_only", Some(value))
                if ["off", "false", "0", "no"].contains(&value.to_lowercase().as_str()) =>
            {
                return Err(error("25006", "transactions are read only here: streams are read, nothing is written"));
            }
            _ => {}
        }
        connection.set(name, value.map(str::to_owned));
        Ok(())
    }

    fn show(&self, name: &str) -> PgWireResult<Response> {
        let value = self.connection.setting(name).or_else(|| match name {
            "statement_timeout" => Some(format!("{}ms", self.connection.timeout().as_millis())),
            _ => default_of(name).map(str::to_owned),
        });
        let Some(value) = value else {
            return Err(error(UNDEFINED_SETTING, format!("unrecognized configuration parameter \"{name}\"")));
        };
        let fields = Arc::new(vec![FieldInfo::new(name.to_owned(), None, None, Type::TEXT, FieldFormat::Text)]);
        let mut row = DataRowEncoder::new(Arc::clone(&fields));
        row.encode_field(&Some(value))?;
        let row = row.take_row();
        let mut response = QueryResponse::new(fields, stream::iter([Ok(row)]));
        response.set_command_tag("SHOW");
        Ok(Response::Query(response))
    }

    fn options(&self) -> Arc<FormatOptions> {
        let names = ["datestyle", "intervalstyle", "bytea_output", "extra_float_digits"];
        let set = names.into_iter().filter_map(|name| Some((name.to_owned(), self.connection.setting(name)?)));
        Arc::new(FormatOptions::from_client_metadata(&set.collect()))
    }
}

fn no_cursor(name: &str) -> PgWireError {
    error(UNDEFINED_CURSOR, format!("cursor \"{name}\" does not exist"))
}

/// A time as settings have it: `1500`, `1500ms`, `2s`, `1min`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit).map(millis)
}

/// The portals of a connection. They are always of our statements: the handlers of a connection have one type.
fn store<C: ClientPortalStore>(client: &C) -> PgWireResult<&Store>
where
    C::PortalStore: PortalStore,
{
    let store = client.portal_store().as_any().downcast_ref::<Store>();
    store.ok_or_else(|| error(INTERNAL, "the portals are of another kind: that is a bug"))
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = self.reader.read(query).await?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::new();
        let mut status = client.transaction_status();
        for statement in statements {
            let answered = async {
                let prepared = self.reader.prepare(statement).await?;
                let asked = Client { store: store(client)?, status, options: self.options() };
                let plan = prepared.plan.as_ref().map(|plan| plan.with(None)).transpose()?;
                self.answer(&asked, &prepared, plan, &Format::UnifiedText).await
            };
            match answered.await {
                Ok(response) => {
                    status = match &response {
                        Response::TransactionStart(_) => status.to_in_transaction_state(),
                        Response::TransactionEnd(_) => status.to_idle_state(),
                        _ => status,
                    };
                    responses.push(response);
                }
                Err(failed) => {
                    // What was begun by the same text fails with it.
                    client.set_transaction_status(status);
                    return Err(failed);
                }
            }
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Reader;

    fn query_parser(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        if self.connection.prepared(&name) > PREPARED {
            client.portal_store().rm_statement(&name);
            self.connection.unprepared(&name);
            return Err(error(TOO_MUCH, format!("more than {PREPARED} statements are prepared: DEALLOCATE some")));
        }
        client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    /// Counts what is bound, which the wire's own way does not; and says how many forms there are for how many columns before somebody
    /// looks for the form of one that has none.
    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement_name = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let statement = match client.portal_store().get_statement(statement_name) {
            Some(statement) => statement,
            None => return Err(PgWireError::StatementNotFound(statement_name.to_owned())),
        };
        let formats = message.result_column_format_codes.len();
        if let (Some(statement), true) = (statement.value(), formats > 1) {
            let columns = self.reader.get_result_schema(&statement.statement, None)?.len();
            if columns != formats {
                let text = format!("bind message has {formats} result formats but query has {columns} columns");
                return Err(error(PROTOCOL, text));
            }
        }
        if let Some(name) = &message.portal_name {
            let bytes = message.parameters.iter().flatten().map(|value| value.len()).sum();
            if !self.connection.bound(name, bytes) {
                client.portal_store().rm_portal(name);
                let text =
                    format!("more than {PREPARED} portals, or {LONG} bytes of their values, are bound: close some");
                return Err(error(TOO_MUCH, text));
            }
        }
        match statement {
            Entry::Value(statement) => {
                client.portal_store().put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
            Entry::Empty => {
                let name = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
                client.portal_store().put_empty_portal(name);
            }
        }
        client.send(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_sync<C>(&self, client: &mut C, _: SyncMessage) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.portal_store().rm_portal(DEFAULT_NAME);
        if !self.connection.is_in_transaction() {
            // What is bound outlives no transaction, and a statement alone is one.
            self.connection.all_bound().iter().for_each(|portal| client.portal_store().rm_portal(portal));
        }
        let ready = ReadyForQuery::new(client.transaction_status());
        client.send(PgWireBackendMessage::ReadyForQuery(ready)).await?;
        Ok(())
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            client.portal_store().rm_statement(name);
            self.connection.unprepared(name);
        } else {
            client.portal_store().rm_portal(name);
            self.connection.unbound(name);
            self.connection.closed(Some(name));
        }
        client.send(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    /// Gives rows as they come: what the wire's own way does would keep all of them, and make room for as many as the client says.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let most = usize::try_from(message.max_rows).ok().filter(|most| *most > 0);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                client.set_state(PgWireConnectionState::ReadyForQuery);
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let mut status = client.transaction_status();
        let state = portal.state();
        let begins = matches!(*state.lock().await, PortalExecutionState::Initial);
        let mut tag = None;
        if begins {
            match ExtendedQueryHandler::do_query(self, client, &portal, most.unwrap_or(0)).await? {
                Response::Query(rows) => portal.start(rows).await,
                Response::TransactionStart(done) => {
                    status = status.to_in_transaction_state();
                    tag = Some(done);
                }
                Response::TransactionEnd(done) => {
                    status = status.to_idle_state();
                    tag = Some(done);
                }
                Response::Execution(done) => tag = Some(done),
                _ => return Err(error(INTERNAL, "a statement was answered with something else: that is a bug")),
            }
        }
        match tag {
            Some(tag) => client.feed(PgWireBackendMessage::CommandComplete(tag.into())).await?,
            None => give(client, &portal, most).await?,
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        client.set_transaction_status(status);
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let plan = prepared.plan.as_ref().map(|plan| with_values(portal, plan)).transpose()?;
        let asked = Client { store: store(client)?, status: client.transaction_status(), options: self.options() };
        self.answer(&asked, prepared, plan, &portal.result_column_format).await
    }
}

/// Sends up to so many rows of a portal.
async fn give<C>(client: &mut C, portal: &Portal<Prepared>, most: Option<usize>) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let state = portal.state();
    let mut state = state.lock().await;
    let mut sent = 0;
    let mut tag = "SELECT".to_owned();
    if let PortalExecutionState::Suspended(rows) = &mut *state {
        tag = rows.command_tag().to_owned();
        loop {
            if most.is_some_and(|most| sent >= most) {
                client.send(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?;
                return Ok(());
            }
            match rows.data_rows().next().await {
                Some(row) => client.feed(PgWireBackendMessage::DataRow(row?)).await?,
                None => break,
            }
            sent += 1;
        }
        *state = PortalExecutionState::Finished;
    }
    client.feed(PgWireBackendMessage::CommandComplete(Tag::new(&tag).with_rows(sent).into())).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_core::{mins, secs};

    use super::*;

    #[test]
    fn a_timeout_is_read_as_postgres_reads_it() {
        for (text, want) in [
            ("0", Some(millis(0))),
            ("1500", Some(millis(1500))),
            ("20ms", Some(millis(20))),
            ("2 s", Some(secs(2))),
            ("1min", Some(mins(1))),
            ("x", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }
}

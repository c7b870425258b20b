// Asks a running program as people do by JDBC. The program and its tables are those of clients.rs.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

public final class Clients {
    private static void same(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) throw new IllegalStateException(what + ": " + got + ", and not " + want);
    }

    private static List<String> all(ResultSet rows, String... columns) throws SQLException {
        List<String> all = new ArrayList<>();
        while (rows.next()) {
            List<String> cells = new ArrayList<>();
            for (String column : columns) cells.add(rows.getString(column));
            all.add(String.join("|", cells));
        }
        return all;
    }

    public static void main(String[] arguments) throws SQLException {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/millstream?user=ann";
        try (Connection connection = DriverManager.getConnection(url)) {
            // Behind the fifth time it prepares on the server.
            try (PreparedStatement statement = connection.prepareStatement("SELECT times, hottest FROM seen WHERE key = ?")) {
                for (int time = 0; time < 8; time++) {
                    statement.setString(1, "a");
                    ResultSet rows = statement.executeQuery();
                    same("a look-up", all(rows, "times", "hottest"), List.of("2|60.0"));
                }
            }
            try (PreparedStatement statement = connection.prepareStatement("SELECT key FROM totals WHERE key = ANY(?) ORDER BY key")) {
                statement.setArray(1, connection.createArrayOf("text", new String[] {"a", "b", "x"}));
                same("several keys", all(statement.executeQuery(), "key"), List.of("a", "b"));
            }
            DatabaseMetaData about = connection.getMetaData();
            same("tables", all(about.getTables(null, "public", "%", new String[] {"TABLE"}), "TABLE_NAME", "TABLE_TYPE"),
                List.of("limits|TABLE", "readings|TABLE", "recent|TABLE", "seen|TABLE", "totals|TABLE"));
            same("columns", all(about.getColumns(null, "public", "seen", "%"), "COLUMN_NAME", "TYPE_NAME", "ORDINAL_POSITION"),
                List.of("key|text|1", "times|int8|2", "hottest|float8|3", "batch|timestamp|4"));
            same("schemas", all(about.getSchemas(), "TABLE_SCHEM").contains("public"), true);
            same("keys", all(about.getPrimaryKeys(null, "public", "seen"), "COLUMN_NAME"), List.of());
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(2);
                ResultSet rows = statement.executeQuery("SELECT n FROM generate_series(1, 7) AS t(n) ORDER BY n");
                same("a cursor", all(rows, "n"), List.of("1", "2", "3", "4", "5", "6", "7"));
            }
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("INSERT INTO limits VALUES ('c', 1)");
                throw new IllegalStateException("INSERT was not refused");
            } catch (SQLException refused) {
                same("the code of a refusal", refused.getSQLState(), "25006");
            }
            connection.rollback();
            connection.setReadOnly(true);
            try (Statement statement = connection.createStatement()) {
                same("behind a rollback", all(statement.executeQuery("SELECT count(*) AS n FROM limits"), "n"), List.of("2"));
            }
            connection.commit();
        }
        System.out.println("JDBC: as it should be");
    }
}

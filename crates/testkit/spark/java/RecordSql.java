// Records what Apache Spark SQL answers: asks it each statement of a file, and writes down columns, rows or the error.
//
// usage: RecordSql FOLDER
//
// In the folder are tables.sql and statements.sql, a statement a line; answers.json is written beside them. A cell is
// what CAST(… AS STRING) makes of it. The session is Spark's own default, in UTC.
import java.nio.file.*;
import java.util.*;
import java.util.stream.*;
import org.apache.spark.sql.*;
import org.apache.spark.sql.types.StructField;

public class RecordSql {
  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    SparkSession spark = SparkSession.builder()
        .master("local[1]")
        .appName("record-sql")
        .config("spark.ui.enabled", "false")
        // Spark makes the folder of its tables at once; here it would be one of the repository.
        .config("spark.sql.warehouse.dir", Files.createTempDirectory("record-sql").toString())
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate();
    // Some statements are there to fail.
    spark.sparkContext().setLogLevel("OFF");
    for (String table : statements(folder.resolve("tables.sql"))) spark.sql(table);
    List<String> asked = statements(folder.resolve("statements.sql"));
    String body = asked.stream().map(statement -> answer(spark, statement)).collect(Collectors.joining(",\n"));
    Files.writeString(
        folder.resolve("answers.json"),
        "{\n\"spark\": " + Json.of(spark.version()) + ",\n\"answers\": [\n" + body + "\n]\n}\n");
    System.err.println(asked.size() + " statements");
    System.exit(0);
  }

  static List<String> statements(Path file) throws Exception {
    return Files.readAllLines(file).stream()
        .filter(line -> !line.isBlank() && !line.startsWith("--"))
        .collect(Collectors.toList());
  }

  static String answer(SparkSession spark, String statement) {
    String asked = "{\"ask\": " + Json.of(statement) + ",";
    try {
      Dataset<Row> table = spark.sql(statement);
      StructField[] fields = table.schema().fields();
      List<List<String>> columns = Arrays.stream(fields)
          .map(field -> List.of(field.name(), field.dataType().sql().toLowerCase(Locale.ROOT)))
          .collect(Collectors.toList());
      // By place, for names may be there twice.
      String[] places = IntStream.range(0, fields.length).mapToObj(place -> "c" + place).toArray(String[]::new);
      Column[] texts = Arrays.stream(places)
          .map(place -> functions.col(place).cast("string"))
          .toArray(Column[]::new);
      String rows = table.toDF(places).select(texts).collectAsList().stream()
          .map(RecordSql::row)
          .collect(Collectors.joining(",\n    ", "[\n    ", "]"));
      return asked + "\n  \"columns\": " + Json.of(columns) + ",\n  \"rows\": " + rows + "}";
    } catch (Exception e) {
      return asked + "\n  \"fails\": " + Json.of(reason(e)) + "}";
    }
  }

  static String row(Row row) {
    StringJoiner cells = new StringJoiner(",", "[", "]");
    for (int place = 0; place < row.size(); place++) cells.add(Json.of(row.get(place)));
    return cells.toString();
  }

  /** Spark's name of the error; its sentence is Spark's own. */
  static String reason(Throwable error) {
    for (Throwable e = error; e != null; e = e.getCause()) {
      if (e instanceof org.apache.spark.SparkThrowable && ((org.apache.spark.SparkThrowable) e).getCondition() != null)
        return ((org.apache.spark.SparkThrowable) e).getCondition();
    }
    return error.getClass().getSimpleName();
  }
}

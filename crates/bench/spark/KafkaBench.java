// The same word count over the direct stream of spark-streaming-kafka-0-10: KafkaBench CORES RECORDS_A_BATCH BATCHES BROKERS TOPIC
// prints how many records a second a batch was counted at, the median of all batches but the first two.

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.api.java.JavaInputDStream;
import org.apache.spark.streaming.api.java.JavaStreamingContext;
import org.apache.spark.streaming.kafka010.ConsumerStrategies;
import org.apache.spark.streaming.kafka010.KafkaUtils;
import org.apache.spark.streaming.kafka010.LocationStrategies;
import org.apache.spark.streaming.scheduler.StreamingListener;
import org.apache.spark.streaming.scheduler.StreamingListenerBatchCompleted;
import scala.Tuple2;

public class KafkaBench {
    static final int PARTITIONS = 3;

    public static void main(String[] words) throws Exception {
        String cores = words[0];
        long batch = Long.parseLong(words[1]);
        int batches = Integer.parseInt(words[2]);
        SparkConf conf = new SparkConf().setMaster("local[" + cores + "]").setAppName("kafka")
            .set("spark.ui.enabled", "false")
            .set("spark.default.parallelism", cores)
            .set("spark.serializer", "org.apache.spark.serializer.KryoSerializer")
            .set("spark.streaming.kafka.maxRatePerPartition", Long.toString(batch / PARTITIONS));
        JavaStreamingContext ssc = new JavaStreamingContext(conf, new Duration(1000));

        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", words[3]);
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", StringDeserializer.class);
        settings.put("group.id", "spark" + System.nanoTime());
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        settings.put("max.poll.records", 5000);
        settings.put("max.partition.fetch.bytes", 4_000_000);
        JavaInputDStream<ConsumerRecord<byte[], String>> records = KafkaUtils.createDirectStream(ssc,
            LocationStrategies.PreferConsistent(), ConsumerStrategies.Subscribe(Arrays.asList(words[4]), settings));
        records.flatMap(record -> Arrays.asList(record.value().split(" ")).iterator())
            .mapToPair(word -> new Tuple2<>(word, 1L))
            .reduceByKey(Long::sum)
            .foreachRDD(rdd -> { rdd.count(); });

        List<Double> rates = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(batches);
        ssc.addStreamingListener(new StreamingListener() {
            @Override
            public void onBatchCompleted(StreamingListenerBatchCompleted completed) {
                long took = (Long) completed.batchInfo().processingDelay().get();
                if (completed.batchInfo().numRecords() > 0) {
                    rates.add(completed.batchInfo().numRecords() * 1000.0 / Math.max(took, 1));
                    done.countDown();
                }
            }
        });
        ssc.start();
        done.await(300, TimeUnit.SECONDS);
        List<Double> counted = new ArrayList<>(rates.subList(Math.min(2, rates.size()), rates.size()));
        Collections.sort(counted);
        System.out.println("spark " + (counted.isEmpty() ? 0 : counted.get(counted.size() / 2).longValue()));
        System.exit(0);
    }
}

// Writes and reads the records of tests/clients/dataset.py with the sarama release of the mod file it
// is built with (go build -modfile=sarama-X.mod).
//
// Arguments: bootstrap base-timestamp-ms count partitions job..., a job being
// action,topic,codec,acks,idempotent,version with action one of write, read, both, times, large.
// Prints: acked TOPIC PARTITION COUNT DIGEST, read (the same), time TOPIC PARTITION TIMESTAMP OFFSET,
// error TOPIC TEXT.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

const readTimeout = 120 * time.Second

var (
	bootstrap  string
	baseMs     int64
	count      int
	partitions int
)

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

var acksByName = map[string]sarama.RequiredAcks{
	"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll,
}

type job struct {
	action, topic, codec, acks string
	idempotent                 bool
	version                    sarama.KafkaVersion
}

func main() {
	bootstrap = os.Args[1]
	baseMs = int64(number(os.Args[2]))
	count = number(os.Args[3])
	partitions = number(os.Args[4])
	for _, argument := range os.Args[5:] {
		run(parseJob(argument))
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parseJob(argument string) job {
	field := strings.Split(argument, ",")
	version, err := sarama.ParseKafkaVersion(field[5])
	check(err)
	return job{field[0], field[1], field[2], field[3], field[4] == "true", version}
}

func run(j job) {
	switch j.action {
	case "write":
		write(j)
	case "read":
		read(j)
	case "both":
		write(j)
		read(j)
	case "times":
		lookUpTimes(j)
	case "large":
		writeTooLarge(j)
	}
}

func config(j job) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = j.version
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = acksByName[j.acks]
	c.Producer.Compression = codecs[j.codec]
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	c.Producer.Idempotent = j.idempotent
	c.Net.MaxOpenRequests = 1
	c.Consumer.Return.Errors = true
	return c
}

func splitmix64(index uint64) uint64 {
	mixed := (index + 1) * 0x9E3779B97F4A7C15
	mixed = (mixed ^ mixed>>30) * 0xBF58476D1CE4E5B9
	mixed = (mixed ^ mixed>>27) * 0x94D049BB133111EB
	return mixed ^ mixed>>31
}

// A nil slice is null, an empty one is empty.
func makeKey(index int) []byte {
	if index%7 == 3 {
		return nil
	}
	if index%11 == 5 {
		return []byte{}
	}
	return []byte(fmt.Sprintf("key-%d", index))
}

func makeValue(index int) []byte {
	if index%13 == 6 {
		return nil
	}
	mixed := splitmix64(uint64(index))
	text := fmt.Sprintf("%016x", mixed)
	return []byte(fmt.Sprintf("%d:%s", index, strings.Repeat(text, int(1+mixed%12))))
}

func makeHeaders(index int) []sarama.RecordHeader {
	if index%5 != 0 {
		return nil
	}
	return []sarama.RecordHeader{
		{Key: []byte("index"), Value: []byte(strconv.Itoa(index))},
		{Key: []byte("null"), Value: nil},
	}
}

func timestamp(index int) time.Time {
	return time.UnixMilli(baseMs + int64(index))
}

func message(topic string, index int) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{
		Topic: topic, Partition: int32(index % partitions), Timestamp: timestamp(index),
		Headers: makeHeaders(index), Metadata: index,
	}
	// An interface that holds a nil slice would be sent as empty: leave it unset for null.
	if key := makeKey(index); key != nil {
		m.Key = sarama.ByteEncoder(key)
	}
	if value := makeValue(index); value != nil {
		m.Value = sarama.ByteEncoder(value)
	}
	return m
}

// A fresh broker answers "load in progress" until its controller has given it producer ids. Old sarama
// does not try again by itself.
func newProducer(j job) sarama.AsyncProducer {
	for tries := 0; ; tries++ {
		producer, err := sarama.NewAsyncProducer([]string{bootstrap}, config(j))
		if err == sarama.ErrOffsetsLoadInProgress && tries < 50 {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		check(err)
		return producer
	}
}

func write(j job) {
	producer := newProducer(j)
	go func() {
		for i := 0; i < count; i++ {
			producer.Input() <- message(j.topic, i)
		}
	}()
	offsets := make([]int64, count)
	for done := 0; done < count; done++ {
		select {
		case sent := <-producer.Successes():
			offsets[sent.Metadata.(int)] = sent.Offset
		case failed := <-producer.Errors():
			check(failed.Err)
		}
	}
	check(producer.Close())
	for p := 0; p < partitions; p++ {
		d := newDigest()
		for i := p; i < count; i += partitions {
			d.add(offsets[i], baseMs+int64(i), makeKey(i), makeValue(i), makeHeaders(i))
		}
		fmt.Println("acked", j.topic, p, d)
	}
}

func read(j job) {
	client, err := sarama.NewClient([]string{bootstrap}, config(j))
	check(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	check(err)
	for p, end := range ends(client, j.topic) {
		fmt.Println("read", j.topic, p, readPartition(consumer, j.topic, int32(p), end))
	}
	check(consumer.Close())
	check(client.Close())
}

// The end of each partition once all records are there: with acks=0 nobody has said when that is.
func ends(client sarama.Client, topic string) []int64 {
	for deadline := time.Now().Add(readTimeout); ; time.Sleep(50 * time.Millisecond) {
		found, sum := make([]int64, partitions), int64(0)
		for p := range found {
			end, err := client.GetOffset(topic, int32(p), sarama.OffsetNewest)
			check(err)
			found[p] = end
			sum += end
		}
		if sum >= int64(count) || time.Now().After(deadline) {
			return found
		}
	}
}

func readPartition(consumer sarama.Consumer, topic string, partition int32, end int64) *digest {
	d := newDigest()
	reader, err := consumer.ConsumePartition(topic, partition, 0)
	check(err)
	timeout := time.After(readTimeout)
	for next := int64(0); next < end; {
		select {
		case got := <-reader.Messages():
			headers := make([]sarama.RecordHeader, 0, len(got.Headers))
			for _, header := range got.Headers {
				headers = append(headers, *header)
			}
			d.add(got.Offset, got.Timestamp.UnixMilli(), got.Key, got.Value, headers)
			next = got.Offset + 1
		case err := <-reader.Errors():
			check(err)
		case <-timeout:
			check(fmt.Errorf("%s-%d: nothing more after offset %d of %d", topic, partition, next, end))
		}
	}
	check(reader.Close())
	return d
}

func lookUpTimes(j job) {
	client, err := sarama.NewClient([]string{bootstrap}, config(j))
	check(err)
	for _, index := range []int{0, 1, count / 3, count / 2, count - partitions, count - 1} {
		for p := 0; p < partitions; p++ {
			at := baseMs + int64(index)
			offset, err := client.GetOffset(j.topic, int32(p), at)
			if err == sarama.ErrOffsetOutOfRange {
				offset = -1
			} else {
				check(err)
			}
			fmt.Println("time", j.topic, p, at, offset)
		}
	}
	check(client.Close())
}

func writeTooLarge(j job) {
	c := config(j)
	c.Producer.MaxMessageBytes = 4000000
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, c)
	check(err)
	large := &sarama.ProducerMessage{Topic: j.topic, Value: sarama.ByteEncoder(make([]byte, 2000000))}
	_, _, err = producer.SendMessage(large)
	if err == sarama.ErrMessageSizeTooLarge {
		fmt.Println("error", j.topic, "ErrMessageSizeTooLarge")
	} else {
		fmt.Println("error", j.topic, err)
	}
	check(producer.Close())
}

type digest struct {
	state hash.Hash
	count int
}

func newDigest() *digest {
	return &digest{state: sha256.New()}
}

func (d *digest) add(offset, timestampMs int64, key, value []byte, headers []sarama.RecordHeader) {
	buffer := binary.BigEndian.AppendUint64(nil, uint64(offset))
	buffer = binary.BigEndian.AppendUint64(buffer, uint64(timestampMs))
	buffer = appendSized(appendSized(buffer, key), value)
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(headers)))
	for _, header := range headers {
		buffer = appendSized(appendSized(buffer, header.Key), header.Value)
	}
	d.state.Write(buffer)
	d.count++
}

func appendSized(buffer, data []byte) []byte {
	if data == nil {
		return binary.BigEndian.AppendUint32(buffer, 0xFFFFFFFF)
	}
	return append(binary.BigEndian.AppendUint32(buffer, uint32(len(data))), data...)
}

func (d *digest) String() string {
	return strconv.Itoa(d.count) + " " + hex.EncodeToString(d.state.Sum(nil))
}

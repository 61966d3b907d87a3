package store_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/store"
)

// writeJournalDir makes this test binary a process that writes to the journal of the directory it names until it is killed, and prints the number
// of each batch that is durable.
const (
	writeJournalDir = "ROLLCALL_TEST_WRITE_JOURNAL_DIR"
	killBefore      = "ROLLCALL_TEST_KILL_BEFORE" // an operation on files, and the how manieth: it kills itself there
)

// killBatch is the nth change of the journal that is killed. In a cycle of 40 it fills 20 MB and empties them again, so that the file is made
// smaller, too. One record tells how many batches there were.
func killBatch(n int) (batch []store.Record) {
	random := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(n))))
	phase := n % 40
	for i := range 200 {
		if phase < 30 {
			value := make([]byte, random.Uint64()%6000)
			_, _ = random.Read(value)
			deadline := time.Unix(int64(1_900_000_000+n), 0)
			batch = append(batch, store.Record{Key: fmt.Sprintf("session-%d-%d", phase, i), Value: value, Deadline: deadline})
			continue
		}
		for j := range 3 {
			if i > 0 {
				batch = append(batch, store.Record{Key: fmt.Sprintf("session-%d-%d", (phase-30)*3+j, i)})
			}
		}
	}
	count := binary.BigEndian.AppendUint64(nil, uint64(n+1))
	return append(batch, store.Record{Key: "batches", Value: count})
}

// afterBatches is what the journal holds after n of them.
func afterBatches(n int) map[string]store.Record {
	records := map[string]store.Record{}
	for i := max(0, n-80); i < n; i++ { // each key is written in each cycle
		for _, r := range killBatch(i) {
			if records[r.Key] = r; r.Value == nil {
				delete(records, r.Key)
			}
		}
	}
	return records
}

func countBatches(records map[string]store.Record) int {
	r, ok := records["batches"]
	if !ok {
		return 0
	}
	return int(binary.BigEndian.Uint64(r.Value))
}

func writeJournal(dir string) error {
	last, nth, _ := strings.Cut(os.Getenv(killBefore), " ")
	left, _ := strconv.Atoi(nth)
	j, err := store.OpenJournal(dir, store.JournalConfig{LeaseInterval: 20 * time.Millisecond, Fault: func(op string) error {
		if op != last {
			return nil
		}
		if left--; left > 0 {
			return nil
		}
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return self.Kill()
	}})
	if err != nil {
		return err
	}
	n := 0
	if err := j.Load(func(r store.Record) error {
		if r.Key == "batches" {
			n = int(binary.BigEndian.Uint64(r.Value))
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Println("open", n)
	for ; ; n++ {
		if err := j.Write(killBatch(n)); err != nil {
			return err
		}
		fmt.Println("written", n+1)
	}
}

// TestJournalOfKilledProcesses kills a writer at random points, and at each step of making the file smaller. Nothing that was acknowledged may be lost, and what is there must be exactly
// what some number of batches, not below the acknowledged one, left.
func TestJournalOfKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	batches, unacknowledged := 0, 0
	for round := range 52 {
		acknowledged := batches
		points := []string{"compact 1", "remove 2", "rename 1", "open 2", fmt.Sprintf("commit %d", 1+random.IntN(20))}
		point := ""
		if round%4 == 0 {
			point = points[round/4%len(points)]
		}
		opened, written := runWriter(t, dir, point, time.Duration(random.IntN(80))*time.Millisecond)
		if opened >= 0 && opened != batches {
			t.Fatalf("round %d: the next process found %d batches, the test %d", round, opened, batches)
		}
		acknowledged = max(acknowledged, written)
		j := openJournal(t, dir, store.JournalConfig{})
		got := load(t, j)
		if s := j.Stats(); s.Resets+s.Damaged != 0 {
			t.Fatalf("round %d: %+v, want nothing damaged", round, s)
		}
		closeJournal(t, j)
		if batches = countBatches(got); batches < acknowledged {
			t.Fatalf("round %d: %d batches, of %d acknowledged ones", round, batches, acknowledged)
		}
		unacknowledged += batches - acknowledged
		wantRecords(t, got, afterBatches(batches))
	}
	t.Logf("%d batches, %d of them durable but not acknowledged", batches, unacknowledged)
	if batches < 52 {
		t.Errorf("%d batches in 52 rounds: too few to mean something", batches)
	}
}

// runWriter starts such a process and has it killed, at the given point or, without one, some time after it has opened the journal. It returns with
// how many batches it began, and how many it said were durable; -1 if it did not get so far.
func runWriter(t *testing.T, dir, point string, life time.Duration) (opened, written int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writeJournalDir+"="+dir, killBefore+"="+point)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	opened, written = -1, -1
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // it is stuck
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("the writer said %q", lines.Text())
		}
		if word == "open" {
			opened = n
			if point == "" {
				timer.Reset(life)
			}
			continue
		}
		written = n
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if stuck := !timer.Stop() && point != ""; stuck || !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the writer was not killed where it should be (%q): %v\n%s", point, err, stderr.String())
	}
	return opened, written
}

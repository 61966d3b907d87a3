package store

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// slotsPerPage is how many leases are stored together: as many as fit in one page of bbolt's, with what that needs itself.
const slotsPerPage = 1000

// deadline is a time in seconds since 1970, 0 for none.
type deadline uint32

// deadlineOf rounds up.
func deadlineOf(t time.Time) deadline {
	if t.IsZero() {
		return 0
	}
	return deadline(min(max(t.Add(time.Second-1).Unix(), 1), math.MaxUint32))
}

func (d deadline) time() time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Unix(int64(d), 0)
}

// leaseTable holds the deadlines of all slots. A record has its own as of when it was written; pages of the table follow renewals.
// A record and a page that differ are told apart by the numbers of their commits.
type leaseTable struct {
	interval  time.Duration
	deadlines []deadline // by slot
	pages     []leasePage
}

type leasePage struct {
	dirtySince time.Time // zero: stored
	seq        uint64    // while loading: of the commit that stored it, math.MaxUint64 if it is damaged
}

func (t *leaseTable) reach(slot uint32) {
	pages := int(slot/slotsPerPage) + 1
	if pages <= len(t.pages) {
		return
	}
	t.pages = append(t.pages, make([]leasePage, pages-len(t.pages))...)
	t.deadlines = append(t.deadlines, make([]deadline, pages*slotsPerPage-len(t.deadlines))...)
}

// set notes the deadline of a record that is being written with it.
func (t *leaseTable) set(slot uint32, d deadline) {
	t.reach(slot)
	t.deadlines[slot] = d
}

func (t *leaseTable) renew(slot uint32, d deadline, now time.Time) {
	t.reach(slot)
	if t.deadlines[slot] == d {
		return
	}
	t.deadlines[slot] = d
	if page := &t.pages[slot/slotsPerPage]; page.dirtySince.IsZero() {
		page.dirtySince = now
	}
}

func (t *leaseTable) isDue(page leasePage, now time.Time) bool {
	return !page.dirtySince.IsZero() && now.Sub(page.dirtySince) >= t.interval
}

func (t *leaseTable) anyDue(now time.Time) bool {
	return slices.ContainsFunc(t.pages, func(page leasePage) bool { return t.isDue(page, now) })
}

// due returns the pages to store now: those of which a lease has waited for the interval, or all with a renewed one.
func (t *leaseTable) due(now time.Time, all bool) (pages []uint32) {
	for i, page := range t.pages {
		if t.isDue(page, now) || all && !page.dirtySince.IsZero() {
			pages = append(pages, uint32(i))
		}
	}
	return pages
}

func (t *leaseTable) stored(pages []uint32) {
	for _, page := range pages {
		t.pages[page].dirtySince = time.Time{}
	}
}

// encode returns a page: the number of the commit, the deadlines, a checksum.
func (t *leaseTable) encode(page uint32, seq uint64) []byte {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, leasePageBytes), seq)
	for _, d := range t.deadlines[page*slotsPerPage:][:slotsPerPage] {
		value = binary.BigEndian.AppendUint32(value, uint32(d))
	}
	return appendSum(value, page)
}

const leasePageBytes = 8 + 4*slotsPerPage + checksumBytes

// decode takes a stored page. If it is damaged, its slots have no known deadlines.
func (t *leaseTable) decode(key, value []byte) (seq uint64, ok bool) {
	if len(key) != slotBytesLen {
		return 0, false
	}
	page := binary.BigEndian.Uint32(key)
	if page >= maxSlots/slotsPerPage {
		return 0, false
	}
	t.reach(page * slotsPerPage)
	body, ok := cutSum(value, page)
	if !ok || len(value) != leasePageBytes {
		t.pages[page].seq = math.MaxUint64
		return 0, false
	}
	seq, body = binary.BigEndian.Uint64(body), body[8:]
	t.pages[page].seq = seq
	for i := range slotsPerPage {
		t.deadlines[page*slotsPerPage+uint32(i)] = deadline(binary.BigEndian.Uint32(body[4*i:]))
	}
	return seq, true
}

// merge returns the deadline of a record just loaded: its own, unless its page is newer.
func (t *leaseTable) merge(slot uint32, r storedRecord) deadline {
	t.reach(slot)
	if t.pages[slot/slotsPerPage].seq < r.seq {
		t.deadlines[slot] = r.deadline
	}
	return t.deadlines[slot]
}

// loaded forgets what only loading needs.
func (t *leaseTable) loaded() {
	for i := range t.pages {
		t.pages[i].seq = 0
	}
}

package crdt

// Removal is one act of removing: its own name, which is numbered apart from the adds, and the dots that went.
type Removal struct {
	Event Dot
	Dots  []Dot
}

// defaultLogged bounds how many dots the log of removals holds.
const defaultLogged = 4096

// removalLog holds the latest removals that a set has applied, its own and others'.
type removalLog struct {
	most    int       // dots
	entries []Removal // oldest first
	dots    int
}

func (l *removalLog) add(r Removal) {
	l.entries = append(l.entries, r)
	l.dots += len(r.Dots)
	for l.dots > l.most && len(l.entries) > 0 {
		l.dots -= len(l.entries[0].Dots)
		l.entries[0] = Removal{}
		l.entries = l.entries[1:]
	}
}

// since returns the removals whose events are in wanted, and whether those are all of them.
func (l *removalLog) since(wanted Context) (found []Removal, all bool) {
	missing := wanted.Len()
	for i := len(l.entries) - 1; i >= 0 && missing > 0; i-- {
		if wanted.Has(l.entries[i].Event) {
			found = append(found, l.entries[i])
			missing--
		}
	}
	return found, missing == 0
}

package membership

import "slices"

// bestLocked returns the members of the list with the newest that is known of each.
func (m *Membership) bestLocked() []record {
	best := slices.Clone(m.saved.List.Members)
	for i, r := range best {
		if newer, found := m.newer[r.ID]; found && newer.Revision > r.Revision {
			best[i] = newer
		}
		if r.ID == m.self.ID {
			best[i] = m.self
		}
	}
	return best
}

func (m *Membership) best() []record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bestLocked()
}

// record is what is known of a member, or of one that raft still counts as one.
func (m *Membership) record(id string) (record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, found := find(m.bestLocked(), id); found {
		return r, true
	}
	if at := slices.IndexFunc(m.saved.Departed, func(r record) bool { return r.ID == id }); at >= 0 {
		return m.saved.Departed[at], true
	}
	return record{}, false
}

func (m *Membership) addr(id string) (string, bool) {
	r, found := m.record(id)
	return r.ClusterAddr, found
}

// cluster is the cluster that this node is a member of, or is about to be, or "".
func (m *Membership) cluster() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved.List.Cluster != "" {
		return m.saved.List.Cluster
	}
	return m.joined
}

func (m *Membership) greeting() greeting {
	var servers []string
	for _, server := range m.servers() {
		servers = append(servers, string(server.ID))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return greeting{From: m.self, Cluster: m.saved.List.Cluster, Index: m.saved.List.Index, Members: m.bestLocked(), Servers: servers}
}

// learn takes what another member knows, and returns whether that shows that this node was removed.
func (m *Membership) learn(g greeting) (removed bool) {
	changed := false
	m.mu.Lock()
	defer func() {
		m.mu.Unlock()
		if changed {
			m.stir()
		}
	}()
	known := m.saved.List
	if known.Cluster == "" || g.Cluster != known.Cluster {
		return false
	}
	for _, r := range append(slices.Clone(g.Members), g.From) {
		changed = m.learnRecordLocked(r) || changed
	}
	if at := slices.IndexFunc(g.Members, func(r record) bool { return r.ID == m.self.ID }); at >= 0 {
		m.outdoLocked(g.Members[at])
		return false
	}
	// With an older list the other has merely not heard of us yet. And as long as raft counts us our vote may be needed, even to do without us.
	return g.Index >= max(known.Index, m.saved.JoinedAt) && !slices.Contains(g.Servers, m.self.ID)
}

// outdoLocked raises the revision above that of an older word of this node. There is one that it does not know of when its disk was lost or set back.
func (m *Membership) outdoLocked(old record) {
	if old.says(m.self) {
		m.self.Revision = max(m.self.Revision, old.Revision)
	} else if old.Revision >= m.self.Revision {
		m.self.Revision = old.Revision + 1
	}
}

func (m *Membership) learnRecordLocked(r record) (changed bool) {
	known, found := find(m.saved.List.Members, r.ID)
	if !found || r.ID == m.self.ID || r.Revision <= max(known.Revision, m.newer[r.ID].Revision) || r.validate() != nil {
		return false
	}
	m.newer[r.ID] = r
	return true
}

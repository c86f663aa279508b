#pragma once
// Names in expressions: ports and protocols only, and only from two plain files.

namespace sluice {

/// Reads /etc/services and /etc/protocols (a short list of our own stands in for a file that is not there). Called once,
/// before the process gives up opening files; afterwards every look-up is a search in memory.
void ReadNames();

}  // namespace sluice

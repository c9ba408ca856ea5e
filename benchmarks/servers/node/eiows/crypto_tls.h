/* In place of Node's own file of that name, for which eiows clones the whole of Node's sources.
 *
 * It is asked for the SSL of an encrypted socket; the benchmark's are plain. Node's public headers are needed still.
 */
#pragma once
#include <memory>

namespace node {
class BaseObject {};
namespace crypto {
class TLSWrap : public BaseObject {
public:
	const std::unique_ptr<SSL, decltype(&SSL_free)> *getSSL() const { return nullptr; }
};
} // namespace crypto
} // namespace node

#define ASSIGN_OR_RETURN_UNWRAP(target, ...) \
	*(target) = nullptr;                 \
	return

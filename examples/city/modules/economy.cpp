// Economy: agents earn at work and buy meals where they are; each district taxes them and sets its price.
// The three versions are three tax laws, each with its own price model. All of it is in whole cents, so
// that the sum over the threads does not depend on who added first.
//
// C++ with its library: what a meal costs is worked out by each thread once a step, into a list of its own, and
// a market that does not clear is an exception.
#include <algorithm>
#include <exception>
#include <vector>

#include "city.h"

namespace {

constexpr int32_t wage = 4;             // cents a step, before tax
constexpr float hungry = 0.5f;          // above this an agent buys a meal
constexpr int32_t cheapest = 50, dearest = 5000;
constexpr int32_t rush = 4;             // times the supply: more than that is no market

struct District {
    int32_t &price, &stock;
};

// Thrown where no price of the law's own would clear the market.
struct NoMarket : std::exception {
    const char *what() const noexcept override { return "more was asked for than there is to sell"; }
};

template <int version> struct Law;

// A flat tax on wages. The price moves by what was asked for beyond the supply.
template <> struct Law<1> {
    static int32_t wage_tax(int32_t) { return wage / 4; }
    static int32_t sales_tax(int32_t) { return 0; }
    static int32_t relief(int32_t) { return 0; }
    static void settle(District d, int32_t demand, int32_t supply) { d.price += (demand - supply) / 64; }
};

// A progressive tax on wages. A store buffers supply and demand; the emptier it is, the dearer a meal.
template <> struct Law<2> {
    static int32_t wage_tax(int32_t money) { return (money >= 2000) + (money >= 10000); }
    static int32_t sales_tax(int32_t) { return 0; }
    static int32_t relief(int32_t) { return 0; }
    static void settle(District d, int32_t demand, int32_t supply) {
        int32_t full = supply * 64 + 256;
        d.stock += supply - demand;
        d.stock = d.stock < 0 ? 0 : d.stock > full ? full : d.stock;
        d.price = 1200 - static_cast<int32_t>(int64_t{1000} * d.stock / full);
    }
};

// A tax on sales that pays the poor. The price follows a moving average of the demand.
template <> struct Law<3> {
    static int32_t wage_tax(int32_t) { return 0; }
    static int32_t sales_tax(int32_t price) { return price / 5; }
    static int32_t relief(int32_t money) { return money < 500; }
    static void settle(District d, int32_t demand, int32_t supply) {
        d.stock += (demand - d.stock) / 16;
        int32_t fair = static_cast<int32_t>(int64_t{400} * (d.stock + 256) / (supply + 256));
        d.price += (fair - d.price) / 8;
    }
};

using TheLaw = Law<VERSION>;

// A meal's cost in a district, and the part of it that is tax.
struct Offer {
    int32_t cost, tax;
};

// The offers of all districts in one step. Prices change between steps only.
class Offers {
    const world *of = nullptr;
    uint32_t tick = 0;
    std::vector<Offer> all;

public:
    const Offer *at(const world *w, uint32_t now) {
        if (of != w || tick != now) {
            all.resize(BLOCKS * BLOCKS);
            std::transform(w->price, w->price + all.size(), all.begin(), [](int32_t price) {
                const int32_t tax = TheLaw::sales_tax(price);
                return Offer{price + tax, tax};
            });
            of = w;
            tick = now;
        }
        return all.data();
    }
};

thread_local Offers offers;

void settle_by_law(District d, int32_t demand, int32_t supply) {
    if (demand > rush * supply) throw NoMarket();
    TheLaw::settle(d, demand, supply);
}

} // namespace

EXPORT void trade(const slice *slice, const world *w, report *report) {
    const size_t row = size_t{slice->lane} * BLOCKS * BLOCKS;
    int32_t *const demand = w->demand + row;
    int32_t *const tax = w->tax + row;
    const Offer *const offer = offers.at(w, slice->tick);

    report->version = VERSION;
    for (uint32_t i = slice->first; i < slice->end; i++) {
        const uint32_t cell = cell_at(w->x[i], w->y[i]);
        const uint32_t here = district_of(cell);
        int32_t money = w->money[i];

        const int32_t relief = TheLaw::relief(money);
        money += relief;
        tax[here] -= relief;
        const int32_t due = TheLaw::wage_tax(money), at_work = -(cell == w->work[i]);
        money += (wage - due) & at_work;
        tax[here] += due & at_work;
        if (w->hunger[i] > hungry) {
            if (const Offer meal = offer[here]; money >= meal.cost) {
                money -= meal.cost;
                tax[here] += meal.tax;
                demand[here]++;
                w->hunger[i] = 0.0f;
            }
        }
        w->money[i] = money;
    }
}

EXPORT void settle(const slice *slice, const world *w, report *report) {
    const uint32_t first = slice->first, count = slice->end - first;
    int32_t demand[BLOCKS * BLOCKS] = {}, tax[BLOCKS * BLOCKS] = {};

    // Add up the lanes' rows, and leave them empty for the next step.
    for (uint32_t lane = 0; lane < w->lanes; lane++) {
        int32_t *const demand_row = w->demand + lane * BLOCKS * BLOCKS + first;
        int32_t *const tax_row = w->tax + lane * BLOCKS * BLOCKS + first;
        for (uint32_t d = 0; d < count; d++) {
            demand[d] += demand_row[d];
            tax[d] += tax_row[d];
        }
        std::fill_n(demand_row, count, 0);
        std::fill_n(tax_row, count, 0);
    }

    report->version = VERSION;
    for (uint32_t d = 0; d < count; d++) {
        int32_t &price = w->price[first + d];
        try {
            settle_by_law({price, w->stock[first + d]}, demand[d] * 256, w->supply);
        } catch (const NoMarket &) {
            // Whoever still sells asks for more.
            price += price / 8;
        }
        price = price < cheapest ? cheapest : price > dearest ? dearest : price;
        w->treasury[first + d] += tax[d];
    }
}

// Economy: agents earn at work and buy meals where they are; each district taxes them and sets its price.
// The three versions are three tax laws, each with its own price model. All of it is in whole cents, so
// that the sum over the threads does not depend on who added first.
#include <string.h>

#include "city.h"

namespace {

constexpr int32_t wage = 4;             // cents a step, before tax
constexpr float hungry = 0.5f;          // above this an agent buys a meal
constexpr int32_t cheapest = 50, dearest = 5000;

struct District {
    int32_t &price, &stock;
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

} // namespace

EXPORT void trade(const slice *slice, const world *w, report *report) {
    const size_t row = size_t{slice->lane} * BLOCKS * BLOCKS;
    int32_t *const demand = w->demand + row;
    int32_t *const tax = w->tax + row;

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
            const int32_t part = TheLaw::sales_tax(w->price[here]);
            if (const int32_t cost = w->price[here] + part; money >= cost) {
                money -= cost;
                tax[here] += part;
                demand[here]++;
                w->hunger[i] = 0.0f;
            }
        }
        w->money[i] = money;
    }
}

EXPORT void settle(const slice *slice, const world *w, report *report) {
    const uint32_t first = slice->first, count = slice->end - first;
    int32_t demand[BLOCKS * BLOCKS], tax[BLOCKS * BLOCKS];
    const size_t bytes = count * sizeof *demand;

    // Add up the lanes' rows, and leave them empty for the next step.
    memset(demand, 0, bytes);
    memset(tax, 0, bytes);
    for (uint32_t lane = 0; lane < w->lanes; lane++) {
        int32_t *const demand_row = w->demand + lane * BLOCKS * BLOCKS + first;
        int32_t *const tax_row = w->tax + lane * BLOCKS * BLOCKS + first;
        for (uint32_t d = 0; d < count; d++) {
            demand[d] += demand_row[d];
            tax[d] += tax_row[d];
        }
        memset(demand_row, 0, bytes);
        memset(tax_row, 0, bytes);
    }

    report->version = VERSION;
    for (uint32_t d = 0; d < count; d++) {
        int32_t &price = w->price[first + d];
        TheLaw::settle({price, w->stock[first + d]}, demand[d] * 256, w->supply);
        price = price < cheapest ? cheapest : price > dearest ? dearest : price;
        w->treasury[first + d] += tax[d];
    }
}
